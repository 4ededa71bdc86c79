"""Compute in a half precision with float32 params: the params are cast once a step, the inputs with them."""

import torch
from torch import Tensor

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
TARGETS = ("labels",)  # compared with float32 logits, so they keep their precision


def compute_dtype(precision: str) -> torch.dtype | None:
    """The type in which the model computes; None for the params' own. Raises ValueError for an unknown name."""
    if precision not in DTYPES:
        raise ValueError(f"precision {precision!r} is unknown; there are {', '.join(DTYPES)}")
    return DTYPES[precision]


def cast_inputs(batch: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The batch with its floating-point inputs in dtype; targets and integers stay."""
    if dtype is None:
        return batch
    return {k: v.to(dtype) if v.is_floating_point() and k not in TARGETS else v for k, v in batch.items()}
