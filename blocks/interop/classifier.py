"""How many classes weights tell apart, whatever their file says of the model."""

from pathlib import Path

from blocks.interop.layouts import Which, weights_of


def num_classes_of(weights: str | Path, which: Which = "params") -> int:
    """The rows of their head. Raises ValueError for weights without a linear classifier."""
    head = weights_of(weights, which).leaves.get("head.weight")
    if head is None or head.ndim != 2:
        raise ValueError(
            f"{weights} has no classifier (head.weight [classes, width]); recipes/linear_probe.py and "
            "recipes/finetune.py give it one"
        )
    return len(head)
