"""Prototypes of SwAV: rows of length 1, how many are in use, and the older embeddings that are assigned to them too."""

import torch
from torch import Tensor

from blocks.collective import maximum, world
from blocks.objectives.collapse import code_entropy
from blocks.objectives.queue import Queue


def with_length_1(weight: Tensor) -> Tensor:
    """Rows [K, E] over their lengths, which are taken for constants: the gradient is that of rows of length 1."""
    return weight / weight.detach().norm(dim=-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)


@torch.no_grad()
def normalise_(weight: Tensor, skip: Tensor | None = None) -> None:
    """Give rows [K, E] length 1 in place, unless skip (bool []); rows that have it but for rounding keep their bits."""
    lengths = weight.double().norm(dim=-1, keepdim=True)
    stays = (lengths - 1).abs() <= 4 * torch.finfo(weight.dtype).eps
    stays = stays if skip is None else stays | skip
    weight.copy_(torch.where(stays, weight, weight / lengths.clamp_min(torch.finfo(weight.dtype).tiny)))


def new_queue(length: int, crops: int, weight: Tensor) -> Queue:
    """Places for `length` embeddings of each crop: {"keys": [L, A, E] of zeros, "next": int64 []}."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    keys = torch.zeros(length, crops, weight.shape[-1], dtype=dtype, device=weight.device)
    return {"keys": keys, "next": torch.zeros((), dtype=torch.int64, device=weight.device)}


def is_full(queue: Queue) -> Tensor:
    """Whether the last place was written, as all before it were: bool []."""
    return queue["keys"][-1].any()


def own_share(queue: Queue) -> Tensor:
    """This process's part of the embeddings, which all processes hold: [A, l, E]."""
    (rank, world_size), length = world(), len(queue["keys"])
    return queue["keys"][rank * length // world_size : (rank + 1) * length // world_size].transpose(0, 1)


@torch.no_grad()
def hardened(codes: Tensor) -> Tensor:
    """1 in place of each code's largest number, 0 elsewhere: [..., K]."""
    return torch.zeros_like(codes).scatter_(-1, codes.argmax(-1, keepdim=True), 1)


@torch.no_grad()
def usage(heads: list[Tensor]) -> dict[str, Tensor]:
    """Means over heads of codes [A, b, K]: code_entropy, and prototypes_used.

    The latter is the share of the prototypes (or of the codes, where these are fewer) that are some code's largest, on
    any process.
    """
    entropy = torch.stack([code_entropy(codes) for codes in heads]).mean()
    return {
        "code_entropy": entropy,
        "prototypes_used": torch.stack([_used(codes.flatten(0, 1)) for codes in heads]).mean(),
    }


def _used(codes: Tensor) -> Tensor:
    count, places = codes.shape
    first = maximum(torch.zeros_like(codes[0]).scatter_(0, codes.argmax(-1), 1))
    return first.sum() / min(world()[1] * count, places)
