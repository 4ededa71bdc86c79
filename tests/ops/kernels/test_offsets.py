"""Views whose offsets pass 2**31 are copied before kernels see them; tensors without memory stand for them."""

import pytest
import torch

pytest.importorskip("triton")

from blocks.ops.kernels import gpsa, sinkhorn
from blocks.ops.kernels.offsets import reachable


def view(shape, strides):
    return torch.empty_strided(shape, strides, device="meta")


def test_a_view_within_reach_is_taken_as_it_is():
    x = view((2, 3, 1 << 20), (1, 1 << 20, 2))
    assert reachable(x, (1, 2)) is x
    far = view((1 << 12, 4), (1 << 21, 1))
    assert reachable(far, (1,)) is far


def test_gpsas_tokens_of_a_batch_in_the_middle_come_nearer():
    """Tokens first, [N, B, h, d]: 577 of them, 6,000 samples of 768 numbers apart."""
    far = view((6000, 12, 577, 64), (768, 64, 6000 * 768, 1))
    assert gpsa._dense_channels(far).stride() == (12 * 577 * 64, 577 * 64, 64, 1)
    near = view((256, 12, 577, 64), (768, 64, 256 * 768, 1))
    assert gpsa._dense_channels(near) is near


def test_sinkhorn_of_transposed_scores_counts_within_reach(monkeypatch):
    """65,536 prototypes, 40,000 samples apart."""
    seen = []
    monkeypatch.setattr(sinkhorn, "_by_sweeps", lambda scores, *_: seen.append(scores.stride()))
    sinkhorn.sinkhorn_codes(view((1, 40_000, 65_536), (0, 1, 40_000)), 20.0, 3, None, None)
    assert seen == [(40_000 * 65_536, 65_536, 1)]
