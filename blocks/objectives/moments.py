"""Running moments of the batch norms in heads: values in memory, for whoever evaluates a head without a batch."""

from typing import Any

from torch import Tensor

from blocks import tree
from blocks.block import Block
from blocks.notes import Memory, noted
from blocks.optim.ema import ema_update_
from blocks.optim.skipping import zero_where
from blocks.tree import Flat

DECAY = 0.9  # 1 - the momentum of torch.nn.BatchNorm


def running(**parts: Block | None) -> dict[str, Any]:
    """{"moments": {part: its batch norms' moments at the start}} of the parts that have any, else {}."""
    begun: dict[str, Any] = {name: getattr(block, "running", dict)() for name, block in parts.items()}
    found = {name: moments for name, moments in begun.items() if moments}
    return {"moments": found} if found else {}


def note_moments(memory: Memory, **parts: Flat) -> Memory:
    """The memory with a note of what each part's batch norms observed, [1, C] by dotted name."""
    found = {f"moments.{part}.{name}": value for part, flat in parts.items() for name, value in flat.items()}
    return noted(memory, **found)


def settle_moments_(memory: Memory, notes: dict[str, Tensor], skip: Tensor | None) -> None:
    """Move the running moments towards the mean of what was noted, in place; unless skip.

    Raises ValueError where moments are noted and not remembered, or the other way around.
    """
    flat = tree.flatten({"moments": memory.get("moments", {})})
    odd = flat.keys() ^ {name for name in notes if name.startswith("moments.")}
    if odd:
        raise ValueError(
            f"{', '.join(sorted(odd)[:2])}: note_moments in the loss and the objective's parts() name other blocks; "
            "name the same in both"
        )
    if flat:
        found = zero_where(skip, [notes[name].float().mean(0) for name in flat])  # what is skipped may be not finite
        ema_update_(flat, dict(zip(flat, found, strict=True)), DECAY, skip=skip)
