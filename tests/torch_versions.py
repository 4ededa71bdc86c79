"""What the oldest torch that is supported, or the Triton that comes with it, cannot do, and newer ones can."""

import numpy
import pytest
import torch

OLDEST = torch.__version__.startswith("2.11.")
compiles_requires_grad = pytest.mark.skipif(OLDEST, reason="torch 2.11 compiles no requires_grad_()")
means_float64 = pytest.mark.skipif(OLDEST, reason="torch 2.11 takes float64's log-sum-exps for float32 as it compiles")


def interpreter_is_broken() -> str | None:
    """Why Triton's interpreter runs nothing here; None if it does."""
    import triton

    old = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)
    new = tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4)
    if old and new:
        return f"the interpreter of Triton {triton.__version__} wants numpy < 2.4, and this is {numpy.__version__}"
    return None
