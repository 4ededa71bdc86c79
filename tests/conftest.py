"""One thread a process: the tests' tensors are tiny, and threads that wait for a busy core cost more than the work."""

import torch

torch.set_num_threads(1)
