"""A queue of keys, the newest of which take the places of the oldest."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blocks.random import key, normal

Queue = dict[str, Tensor]  # {"keys": [K, E], "next": int64 [] the place of the oldest key}


def new_queue(size: int, dim: int, like: Tensor) -> Queue:
    """A queue of `size` random keys [dim] of length 1, always the same; on the device of a tensor, float32 at least."""
    keys = F.normalize(normal(key(0), (size, dim), torch.float64), dim=1)
    dtype = torch.promote_types(like.dtype, torch.float32)
    return {"keys": keys.to(like.device, dtype), "next": torch.zeros((), dtype=torch.int64, device=like.device)}


@torch.no_grad()
def enqueue_(queue: Queue, keys: Tensor, skip: Tensor | None = None) -> None:
    """Write keys [B, E], oldest first, over the queue's oldest, in place; where skip (bool []) is true nothing changes.

    Any B will do: the places wrap around, and of more keys than the queue holds the last stay.
    """
    size, count = len(queue["keys"]), len(keys)
    kept = keys[-size:].to(queue["keys"].dtype)
    places = torch.arange(count - len(kept), count, device=keys.device).add_(queue["next"]).remainder_(size)
    if skip is not None:
        kept = torch.where(skip, queue["keys"][places], kept)
    queue["keys"].index_copy_(0, places, kept)
    queue["next"].add_(count if skip is None else count * ~skip).remainder_(size)
