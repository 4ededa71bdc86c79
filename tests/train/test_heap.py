"""Freed memory stays with the process."""

import subprocess
import sys

PROGRAM = """
import resource
import torch
from blocks.train.heap import keep_heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults(), int(keep_heap()), faults(), faults())
"""


def test_memory_that_was_freed_is_not_taken_from_the_kernel_anew():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    before, kept, _, after = map(int, found)
    if kept:  # glibc
        assert after < 100
        assert before > 10 * max(1, after)
