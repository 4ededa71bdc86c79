"""Which classes are taken for which."""

import torch
from torch import Tensor


def confusion(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """How often class i was taken for class j: labels and predicted int64 [n] -> int64 [classes, classes] at (i, j).

    Raises ValueError for labels or predictions that are no class.
    """
    for name, values in (("label", labels), ("prediction", predicted)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            span = f"{int(values.min())} to {int(values.max())}"
            raise ValueError(f"{name}s are {span}, which are not among {num_classes} classes; say their number")
    pairs = labels * num_classes + predicted
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
