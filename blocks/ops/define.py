"""Kernels as operators of torch, so that autograd, torch.compile and torch.func take them for one step.

`torch.library.custom_op` with `register_autograd` fails under `torch.func.grad`: an op is defined here without a
gradient, and called from an `autograd.Function` that has one.
"""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("vitmason", "FRAGMENT")  # lives as long as the process: its end unregisters all


def define(schema: str, compute: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """The operator `torch.ops.vitmason.<name>` of a schema "name(Tensor x, float t) -> Tensor".

    `compute` runs on every device; `fake` gives empty tensors of the results' shapes, types and strides.
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema)
    LIBRARY.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"vitmason::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.vitmason, name).default
