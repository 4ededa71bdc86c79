"""Computing on the GPU where the tensors are: Triton launches on the current one, whatever it is given."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def on_its_device(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, while the GPU of its first tensor is the current one; what it launches waits in its stream."""

    @wraps(compute)
    def there(*args: Any, **knobs: Any) -> Any:
        first = first_tensor(args)
        if first is None or not first.is_cuda:
            return compute(*args, **knobs)
        with torch.cuda.device(first.device):
            return compute(*args, **knobs)

    return there


def first_tensor(args: Iterable[Any]) -> Tensor | None:
    """The first tensor among arguments and lists of them."""
    for arg in args:
        found = first_tensor(arg) if isinstance(arg, list | tuple) else arg
        if isinstance(found, Tensor):
            return found
    return None
