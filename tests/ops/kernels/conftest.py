"""Kernels run on a GPU where there is one, else by Triton's interpreter, and write into poisoned memory."""

import pytest
import torch

from tests.torch_versions import interpreter_is_broken


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


@pytest.fixture(autouse=True, scope="session")
def _patched_once():
    """The interpreter patches Triton's language at every call between jitted functions, half of its time.

    A launch patches it for our functions; for Triton's own once is enough, which stays.
    """
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if not torch.cuda.is_available() and (reason := interpreter_is_broken()):
        pytest.skip(reason)
    patched, original = set(), interpreter.InterpretedFunction.__call__

    def call(self, *args, **kwargs):
        if self.fn.__module__.startswith("triton.") and self.fn.__module__ not in patched:
            patched.add(self.fn.__module__)
            return original(self, *args, **kwargs)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
    yield
    interpreter.InterpretedFunction.__call__ = original
