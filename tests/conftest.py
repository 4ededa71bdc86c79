"""One thread a process: the tests' tensors are tiny, and threads that wait for a busy core cost more than the work.

Also after a test of what sets them: another number of threads sums in another order, and `torch.equal` sees it.
Without a GPU, Triton's kernels run by its interpreter, which wants to be told before Triton is first imported.
"""

import os

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)
