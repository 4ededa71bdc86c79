"""What a loss leaves in memory for the end of the step, when all micro-batches are through."""

from typing import Any

import torch
from torch import Tensor

Memory = dict[str, Any]


def noted(memory: Memory, **found: Tensor) -> Memory:
    """The memory with these notes; each goes below (axis 0) what earlier micro-batches noted under its name."""
    notes = dict(memory.get("notes", {}))
    for name, value in found.items():
        value = value.detach()
        notes[name] = torch.cat((notes[name], value)) if name in notes else value
    return {**memory, "notes": notes}


def taken(memory: Memory) -> tuple[Memory, dict[str, Tensor]]:
    """(the memory without notes, the notes by name)."""
    return {name: node for name, node in memory.items() if name != "notes"}, memory.get("notes", {})


def put_before(earlier: dict[str, Tensor], memory: Memory) -> Memory:
    """The memory, its notes below those of earlier micro-batches."""
    bare, notes = taken(memory)
    return noted({**bare, "notes": earlier}, **notes)
