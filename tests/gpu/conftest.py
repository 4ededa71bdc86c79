"""What only a GPU can show: every test here wants one, and compares it with the CPU."""

from contextlib import contextmanager

import pytest
import torch


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return "cuda"


@pytest.fixture
def no_waiting(device):
    """Makes a context in which an operation that makes the host wait for the GPU is an error."""

    @contextmanager
    def strict():
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return strict
