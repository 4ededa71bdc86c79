"""Offsets and numbers of rows that pass 2**31; tensors without memory stand for most."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from blocks.ops import gelu, residual_norm
from blocks.ops.kernels import nt_xent, sinkhorn
from blocks.ops.kernels.offsets import reachable


def view(shape, strides):
    return torch.empty_strided(shape, strides, device="meta")


def test_a_view_within_reach_is_taken_as_it_is():
    x = view((2, 3, 1 << 20), (1, 1 << 20, 2))
    assert reachable(x, (1, 2)) is x
    far = view((1 << 12, 4), (1 << 21, 1))
    assert reachable(far, (1,)) is far


@pytest.mark.parametrize(("rows", "words"), [(1 << 30, None), ((1 << 30) + 1, "there are more than 2**30 rows")])
def test_rows_that_a_kernel_cannot_number_are_pytorchs(rows, words):
    x, weight = view((rows, 1), (1, 1)), view((1,), (1,))
    assert gelu._unsupported(x, weight, weight) == words
    assert residual_norm._unsupported(x, x, weight, None) == words


def test_nt_xent_of_columns_past_the_reach_of_32_bits(device):
    """On a CPU the zeros between, 4 GB, are memory only in name."""
    base = torch.from_numpy(np.zeros((1 << 31) + (1 << 10), np.float16)).to(device)
    far = base.as_strided((6, 9), (1, 1 << 28)).copy_(torch.arange(54).view(6, 9) / 54)
    near = far.contiguous()
    assert torch.equal(nt_xent.log_sums(far, far, 2, 3.0), nt_xent.log_sums(near, near, 2, 3.0))


def test_sinkhorn_of_transposed_scores_counts_within_reach(monkeypatch):
    """65,536 prototypes, 40,000 samples apart."""
    seen = []
    monkeypatch.setattr(sinkhorn, "_by_sweeps", lambda scores, *_: seen.append(scores.stride()))
    sinkhorn.sinkhorn_codes(view((1, 40_000, 65_536), (0, 1, 40_000)), 20.0, 3, None, None)
    assert seen == [(40_000 * 65_536, 65_536, 1)]
