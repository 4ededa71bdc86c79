"""torch.compile for a step's loss: forward and backward become fused kernels."""

import os
import shutil
from collections.abc import Callable

import torch

COMPILERS = ("c++", "g++", "clang++")


def compiled(loss: Callable) -> Callable:
    """An objective's loss, compiled at its first call, its backward pass too; one shape of batch is one compilation.

    Raises ValueError where there is no C++ compiler, which PyTorch needs for it on a CPU and for a GPU's launchers.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    if not any(map(shutil.which, names)):
        raise ValueError(
            f"compile=True needs a C++ compiler and finds none ({', '.join(names)}); install one (apt install g++), "
            "name it in the environment variable CXX, or use compile=False"
        )
    return torch.compile(loss, dynamic=False)
