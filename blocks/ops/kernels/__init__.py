"""Triton kernels, one file an op: its reference and the choice stand in `blocks/ops` under the same name, those for
pictures in `blocks/data`.

Each is imported only where it is asked for: a machine without Triton works. The launch is a function of tensors that
allocates its outputs; what autograd and torch.func want of it is the op's.
"""
