"""`blocks.threefry` on a GPU: by a kernel in one launch, where tensor operations are some 150 a draw."""

import torch
from torch import Tensor

from blocks.ops.choose import Impl, choose
from blocks.ops.on_device import on_its_device
from blocks.threefry import threefry_reference


@on_its_device
def words_of(key: Tensor, counter: Tensor, *, impl: Impl = "auto") -> Tensor:
    """Words of (key, counter): int32 [..., 2] each, broadcast -> int32 [..., 2]. "torch" is the reference."""
    if choose(impl, counter, lambda: unsupported(key, counter)) != "triton":
        return threefry_reference(key, counter)
    from blocks.ops.kernels import threefry as kernels  # Triton, only where it is asked for

    return kernels.words_of(key, counter)


def unsupported(key: Tensor, counter: Tensor) -> str | None:
    """What the kernel cannot do for such words."""
    if (key.dtype, counter.dtype) != (torch.int32, torch.int32):
        return f"key and counter are {key.dtype} and {counter.dtype}, and the kernel knows torch.int32"
    return "key and counter lie on two devices" if key.device != counter.device else None


torch.library.impl("blocks::threefry", "cuda")(words_of)
