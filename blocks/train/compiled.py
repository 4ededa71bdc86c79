"""torch.compile for a step: layer by layer, the loss, or the whole."""

import os
import shutil
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from blocks.layers.compiled import compiled_alone
from blocks.notes import put_before, taken
from blocks.train.batch_gradient import Batch, Loss, Metrics

COMPILERS = ("c++", "g++", "clang++")
# the values of `compile`; True stands for "loss"
Compile = bool | Literal["layers", "loss", "step", "graph"]
WHOLE = ("step", "graph")
MODES = ("layers", "loss", *WHOLE)


def compile_mode(compile: Compile, world_size: int = 1) -> str | None:
    """What `compile` means among so many processes; None for nothing.

    Raises ValueError for an unknown one, and where there is no C++ compiler, which PyTorch needs for it on a CPU and
    for a GPU's launchers.
    """
    if compile is False:
        return None
    if compile is not True and compile not in MODES:
        raise ValueError(f"compile {compile!r} is unknown; there are True, False, {', '.join(map(repr, MODES))}")
    check_compiler(compile)
    if compile is True or (compile in WHOLE and world_size > 1):
        return "loss"
    return compile


def check_compiler(compile: Compile) -> None:
    """Raises ValueError without a C++ compiler."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    if not any(map(shutil.which, names)):
        raise ValueError(
            f"compile={compile!r} needs a C++ compiler and finds none ({', '.join(names)}); install one (apt install "
            "g++), name it in the environment variable CXX, or use compile=False"
        )


def compiled(loss: Loss, backend: str | Callable = "inductor") -> Loss:
    """An objective's loss, compiled at its first call, its backward pass too; one shape of batch is one compilation.

    What earlier micro-batches noted stays outside: it grows, and each length would be compiled anew.
    """
    fused = compiled_alone(lambda *inputs: loss(*inputs), backend=backend)

    def noting(params: Any, memory: Any, batch: Batch, key: Tensor | None) -> tuple[Tensor, Any, Metrics]:
        if not (isinstance(memory, dict) and "notes" in memory):
            return fused(params, memory, batch, key)
        bare, earlier = taken(memory)
        value, new, metrics = fused(params, bare, batch, key)
        return value, put_before(earlier, new), metrics

    return noting
