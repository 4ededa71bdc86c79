"""Kernels run on a GPU where there is one, else by Triton's interpreter, and write into poisoned memory."""

import pytest
import torch


@pytest.fixture(scope="session")
def device():
    """Where the kernels of the tests run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _poisoned_outputs():
    """Fresh memory holds NaN, or the largest integer: what a kernel leaves unwritten shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what torch.empty gives
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(2).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
