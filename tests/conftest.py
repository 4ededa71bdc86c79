"""One thread a process: the tests' tensors are tiny, and threads that wait for a busy core cost more than the work.

Also after a test of what sets them: another number of threads sums in another order, and `torch.equal` sees it.
"""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)
