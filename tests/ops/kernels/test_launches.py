"""What every launch says."""

from pathlib import Path

import pytest

import blocks

KERNELS = Path(blocks.__file__).parent / "ops" / "kernels"
WHOLE = {"blur"}  # it has whole numbers alone


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda path: path.stem)
def test_whether_products_and_sums_are_fused_is_said(path):
    """Triton 3.10 will not fuse by itself: a run would not go on bit for bit, and be slower."""
    source = path.read_text()
    assert "num_warps" not in source or path.stem in WHOLE or "enable_fp_fusion" in source
