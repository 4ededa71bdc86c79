"""What `bench/gpu.py` measures of an op: its forms, what they read, and the least that has to be moved."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from blocks import key, random

Form = Callable[..., Any]  # (*inputs) -> a tensor or a tuple of them


@dataclass
class Case:
    """An op on inputs, of which those that require a gradient get one. `forms` are its implementations by name.

    "plain" is the reference and what "compiled" compiles. `work` is (FLOP, bytes) that no form can do without, forward
    and backward. `skipped` says why a form is not there. `unlike` are forms that are right and give other numbers.
    """

    shape: str
    inputs: list[Tensor]
    forms: dict[str, Form]
    work: tuple[float, float]
    skipped: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, Form] = field(default_factory=dict)


def normal(seed: int, *shape: int, like: Tensor, grad: bool = True) -> Tensor:
    return random.normal(key(seed, like.device), shape).to(like.dtype).requires_grad_(grad)


def ours(op: Form, on_gpu: bool, **knobs: Any) -> dict[str, Form]:
    """An op's plain form, PyTorch's and, on a GPU, the kernel."""
    impls = ("plain", "torch", "triton") if on_gpu else ("plain", "torch")
    return {impl: partial(op, impl=impl, **knobs) for impl in impls}


def peer(case: Case, name: str, module: str, make: Callable[[Any], Form]) -> Case:
    """The case with another library's form, or why it has none."""
    try:
        case.forms[name] = make(importlib.import_module(module))
    except Exception as why:
        case.skipped[name] = f"{type(why).__name__}: {why}"
    return case
