"""GPSA's kernels on grids of every form, up to their limits, and where addresses pass 2**31."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.tables import ROOT, rows
from blocks.ops.gpsa import position_attention
from blocks.ops.gpsa_fused import gpsa_fused, shared_bytes, unsupported
from tests.ops.kernels.test_gpsa_kernel import check
from tests.ops.test_gpsa import inputs, value_and_grads

pytest.importorskip("triton")

from bench.compile_gpsa import NAME, Case


def fused(q, k, v, weight, bias, gate, grid, prefix):
    """The kernels, whether `gpsa` would take them or not."""
    rows, cols = position_attention(weight, bias, grid)
    return gpsa_fused(q, k, v, rows, cols, gate.sigmoid(), q.shape[-1] ** -0.5, prefix)


@pytest.mark.parametrize(
    ("grid", "channels"), [((1, 9), 3), ((9, 1), 17), ((2, 31), 5), ((33, 5), 4), ((3, 16), 33), ((8, 17), 16)]
)
@pytest.mark.parametrize("prefix", [0, 1])
def test_values_and_all_gradients_of_odd_grids(device, grid, channels, prefix):
    check([x.to(device) for x in inputs(1, 1, grid, channels, prefix)], grid, prefix, function=fused)


def test_several_samples_and_heads_of_a_slender_grid(device):
    check([x.to(device) for x in inputs(2, 3, (17, 3), 5, 2)], (17, 3), 2, function=fused)


def reason(height, width, dtype):
    x = torch.empty(1, 1, height * width, 8, dtype=dtype, device="meta")
    return unsupported(x, x, x, torch.empty(1, height, height), torch.empty(1, width, width))


@pytest.mark.parametrize(("dtype", "largest"), [(torch.bfloat16, 64), (torch.float16, 64), (torch.float32, 32)])
def test_a_grid_has_as_many_patches_a_side_as_tiles_hold(dtype, largest):
    assert reason(largest, largest, dtype) is None
    for height, width in ((largest, largest + 1), (largest + 1, largest)):
        words = f"the grid is {height} x {width}, and in {dtype} the kernels take {largest} a side"
        assert reason(height, width, dtype) == words


def test_a_grid_is_at_most_eight_times_as_high_as_wide():
    assert reason(8, 1, torch.float32) is None
    assert reason(1, 32, torch.float32) is None
    assert "9 x 1" in reason(9, 1, torch.float32)


FAR = 1 << 28  # numbers from token to token: the ninth's lie past 2**31


@pytest.mark.parametrize("far", [(0, 0, FAR, 1), (0, 1 << 31, 16, 1)], ids=["tokens", "heads"])
def test_numbers_past_the_reach_of_32_bits(device, far):
    """On a CPU the zeros between, 4 GB, are memory only in name."""
    heads = 2 if far[1] else 1
    base = torch.from_numpy(np.zeros((1 << 31) + (1 << 10), np.float16)).to(device)
    leaves = [x.float().to(device) for x in inputs(1, heads, (3, 3), 4, 0)]
    places = [base.as_strided((1, heads, 9, 4), far, 4 * i) for i in range(3)]
    for place, x in zip(places, leaves, strict=False):
        place.copy_(x)
    near = [x.contiguous() for x in places]
    found, wanted = (value_and_grads(fused, [*x, *leaves[3:]], (3, 3), 0) for x in (places, near))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_what_was_recorded_is_what_triton_compiles(tmp_path):
    """On any machine: compiling for a GPU wants none. Another Triton may take less, not more than the table says."""
    case = Case("weighted_sums", 2, 64, 1, 1)
    script = f"import json; from bench.compile_gpsa import Case, measure; print(json.dumps(measure({case}, 90)))"
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    found = json.loads(subprocess.check_output([sys.executable, "-c", script], env=environment, cwd=ROOT))
    assert 0 < found["shared"] <= shared_bytes(2, 64, 1)
    recorded = [line for line in rows(NAME) if line.items() >= {**case._asdict(), "capability": 90}.items()]
    assert found["triton"] != recorded[0]["triton"] or found["shared"] == recorded[0]["shared"]
