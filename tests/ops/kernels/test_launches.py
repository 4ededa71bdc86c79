"""What every launch says."""

from pathlib import Path

import pytest

import blocks

KERNELS = Path(blocks.__file__).parent / "ops" / "kernels"
SAID = ("**FUSED", "| FUSED", "**AS_WRITTEN")


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.stem)
def test_whether_products_and_sums_are_fused_is_said(path):
    """Triton 3.10 will not fuse by itself: a run would not go on bit for bit, and be slower. Till then it warns."""
    source = path.read_text()
    assert source.count("num_warps=") <= sum(map(source.count, SAID)) or "num_warps: int" in source
    assert "num_warps" not in source or any(word in source for word in SAID)
