"""What only a GPU can show: every test here wants one, and compares it with the CPU."""

import pytest
import torch


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return "cuda"


@pytest.fixture
def no_waiting(device):
    """A context in which an operation that makes the host wait for the GPU is an error."""

    class NoWaiting:
        def __enter__(self) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_: object) -> None:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")

    return NoWaiting()
