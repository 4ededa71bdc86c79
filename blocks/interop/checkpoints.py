"""Params for a model from a checkpoint, this library's or another's: to evaluate, to fine-tune, to teach."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs
import torch
from torch import Tensor

from blocks import random, tree
from blocks.block import Block, Params
from blocks.interop.activation import other_activation, untold_activation
from blocks.interop.described import grid_of
from blocks.interop.entries import every, some
from blocks.interop.layouts import OWN, Which, weights_of
from blocks.interop.moco_v3 import is_table, misread, other_heads
from blocks.interop.options import wanted_options
from blocks.interop.positions import fitted
from blocks.interop.spare import spare
from blocks.interop.trunk import layers_of, trunk_of
from blocks.interop.vissl import NORM_EPS
from blocks.interop.weights import Weights
from blocks.layers.position import PositionEmbedding
from blocks.tree import Flat

Head = Literal["keep", "new", "fit"]
# what the names of heads begin with, and of what pretraining keeps beside a trunk
HEADS: tuple[str, ...] = (
    *("head.", "head_dist.", "heads.", "pre_logits.", "fc.", "projection_head."),
    *("predictor.", "prototypes.", "decoder.", "mask_token", "patch_head.", "features."),
)
NORMS = ("norm.", "fc_norm.")  # the last, of tokens, or of their mean: a model has one of them


class Pretraining(Protocol):
    """A self-supervised objective, whose params are a model's and what stands beside it."""

    @property
    def model(self) -> Any:
        """The model."""

    def fresh(self, key: Tensor) -> Params:
        """Fresh params."""


@attrs.frozen
class Report:
    """What `load_weights` did: names of leaves, and a line for each that was changed. `print` shows a few lines."""

    source: str
    layout: str
    read: tuple[str, ...]
    resized: tuple[str, ...]  # "pos_embed: 14 x 14 patches to 24 x 24"
    fresh: tuple[str, ...]  # of the model, from its `init`
    left: tuple[str, ...]  # of the file, not read
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = {"resized": self.resized, "fresh": self.fresh, "left out": self.left, "note": self.notes}
        shown = [f"  {title}: {some(entries)}" for title, entries in lines.items() if entries]
        return "\n".join([f"{len(self.read)} leaves from {self.source} ({self.layout})", *shown])


def load_weights(
    model: Block | Pretraining,
    source: str | Path | Mapping[str, Any],
    *,
    key: Tensor | None = None,
    which: Which = "params",
    head: Head = "keep",
    fresh: Sequence[str] = (),
    ignore: Sequence[str] = (),
    grid: tuple[int, int] | None = None,
) -> tuple[Params, Report]:
    """(params of `model` on the key's device, report) from a file or what was read from one; see `layouts` for which.

    A self-supervised objective in the model's place also gets its head, predictor, prototypes or decoder, where the
    file has them; `objective.remember(params)` begins its memory.

    Whatever is missing, unexpected or of another shape is an error, but for: a position embedding, which is resized to
    the model's grid (a file of ours says its own; of others give `grid`, where it was no square); `head` "new", which
    starts the head from `init(key)`, "fit" only where the file's does not fit, and with both the last norm, where the
    file's pooled otherwise, as MAE's fine-tuning does; `fresh`, patterns of the model's names that start likewise;
    `ignore`, patterns of the file's names. `which` takes the params, their "ema", or a "teacher". Raises one ValueError
    that names all.
    """
    if not isinstance(model, Block) and not hasattr(model, "fresh"):
        raise ValueError(f"a {type(model).__name__} has no params to load: load_weights(model, source) wants a block")
    if key is not None:
        random.check(key)
    found = weights_of(source, which)
    if grid is None and found.layout == OWN and not isinstance(source, Mapping):
        grid = grid_of(source)
    template = _init(model, random.key(0, device="meta"))  # shapes only
    wanted = tree.flatten(template)
    new, left = _matching(wanted, fresh, "the model"), _matching(found.leaves, ignore, "the file")
    if _drops_head(wanted, found.leaves, head):
        new, left = new | _of_head(wanted).keys(), left | _of_head(found.leaves).keys()
    if head != "keep":
        new, left = new | _last_norm(wanted, found.leaves), left | _last_norm(found.leaves, wanted)
    left |= new & found.leaves.keys()
    left |= spare(model, {name: leaf for name, leaf in found.leaves.items() if name not in left}, wanted, grid)
    leaves = {name: leaf for name, leaf in found.leaves.items() if name not in left}
    table = _position_table(model, leaves)
    fits = new | ({"pos_embed"} if table else set())
    more = [*misread(model, trunk_of(model), found, leaves, grid), *other_activation(trunk_of(model), found)]
    _check({n: t for n, t in wanted.items() if n not in fits}, leaves, fits, more, _hint(wanted, found.leaves, head))
    start = _start(model, new, key)
    resized: tuple[str, ...] = ()
    if table:
        leaves["pos_embed"], said = fitted(leaves["pos_embed"], found.leaves, table, start.get("pos_embed"), grid)
        resized = (f"pos_embed: {said}",) if said else ()
    device = torch.device("cpu") if key is None else key.device
    taken = {n: (leaves[n].detach(), t.dtype) for n, t in wanted.items() if n not in new}
    read = {n: leaf.to(device, dtype, copy=True).contiguous() for n, (leaf, dtype) in taken.items()}
    params = tree.like(template, read | {n: start[n] for n in new})
    names = (tuple(read), resized, tuple(n for n in wanted if n in new), _left(found, left))
    title = "a dictionary" if isinstance(source, Mapping) else str(source)
    return params, Report(title, found.layout, *names, _notes(model, found, read))


def _init(model: Block | Pretraining, key: Tensor) -> Params:
    return model.init(key) if isinstance(model, Block) else model.fresh(key)


def _of_head(names: Flat) -> dict[str, torch.Size]:
    """Names and shapes of a head's leaves."""
    return {name: leaf.shape for name, leaf in names.items() if name.startswith(HEADS)}


def _drops_head(wanted: Flat, found: Flat, head: Head) -> bool:
    """Whether the model's head starts afresh and the file's is left out."""
    if head not in ("keep", "new", "fit"):
        raise ValueError(f'head {head!r} is not known; use "keep", "new", or "fit" (new where it does not fit)')
    return head == "new" or (head == "fit" and _of_head(wanted) != _of_head(found))


def _last_norm(names: Flat, others: Flat) -> set[str]:
    """The names of a last norm that the others have in the other place, before or after pooling."""
    ours, theirs = ([n for n in leaves if n.startswith(NORMS)] for leaves in (names, others))
    return set() if not theirs or set(ours) & set(theirs) else set(ours)


def _start(model: Block | Pretraining, new: set[str], key: Tensor | None) -> Flat:
    if not new:
        return {}
    if key is None:
        raise ValueError(f"{some(sorted(new))} start afresh: give key=random.key(seed)")
    return tree.flatten(_init(model, key))


def _left(found: Weights, left: set[str]) -> tuple[str, ...]:
    return (*(name for name in found.leaves if name in left), *found.left)


def _position_table(model: Block | Pretraining, leaves: Flat) -> PositionEmbedding | None:
    """The model's position embedding, if the leaves have one of its width, which can be made to fit."""
    table, found = getattr(trunk_of(model), "pos_embed", None), leaves.get("pos_embed")
    if not isinstance(table, PositionEmbedding) or found is None or found.ndim != 3 or _kind(found):
        return None
    return table if found.shape[2] == table.embed_dim else None


def _notes(model: Block | Pretraining, found: Weights, read: Flat) -> tuple[str, ...]:
    trunk = trunk_of(model)
    heads = other_heads(trunk, found.leaves) if "pos_embed" in read and is_table(found.leaves["pos_embed"]) else ""
    return tuple(line for line in (_other_eps(trunk, found.norm_eps), heads, untold_activation(trunk, found)) if line)


def _other_eps(trunk: Any, theirs: float | None) -> str:
    """What to say where the norms of a file's layers had another eps than those of the trunk's; else ""."""
    layers = layers_of(trunk)
    eps = getattr(getattr(layers[0], "norm1", None), "eps", theirs) if layers else theirs
    if eps == theirs or theirs is None:
        return ""
    call = "with_eps(model)" if theirs == NORM_EPS else f"with_eps(model, {theirs:g})"
    return f"its norms had eps {theirs:g}, the model's have {eps:g}; vissl.{call} has equal numbers"


def _matching(names: Flat, patterns: Sequence[str], whose: str) -> set[str]:
    """The names that match a pattern, as a shell does. Each pattern must match one."""
    hits = {pattern: {name for name in names if fnmatchcase(name, pattern)} for pattern in patterns}
    for pattern, hit in hits.items():
        if not hit:
            begin = list(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ValueError(f"{pattern!r} matches no name of {whose}; those begin with {some(begin)}")
    return set().union(*hits.values())


def _check(wanted: Flat, found: Flat, fits: set[str], more: Sequence[str], hint: str) -> None:
    both = [name for name in wanted if name in found]
    problems = {
        "missing": [f"{n} {list(t.shape)}" for n, t in wanted.items() if n not in found],
        "unexpected": [f"{n} {list(t.shape)}" for n, t in found.items() if n not in wanted and n not in fits],
        "of another shape": [
            f"{n}: wanted {list(wanted[n].shape)}, found {list(found[n].shape)}"
            for n in both
            if wanted[n].shape != found[n].shape
        ],
        "no plain floats": [
            f"{n} {_kind(found[n])}" for n in both if wanted[n].is_floating_point() and _kind(found[n])
        ],
    }
    lines = [*(f"{kind}: {every(entries)}" for kind, entries in problems.items() if entries), *more]
    if lines:
        lines += wanted_options(wanted, found)
        raise ValueError("\n".join(["these weights do not fit the model", *lines, hint]))


def _kind(leaf: Tensor) -> str:
    """What a leaf is that holds no numbers as they are: quantised, complex, sparse, without data; else ""."""
    odd = {"sparse": leaf.layout != torch.strided, "without data": leaf.is_meta}
    return next((kind for kind, is_so in odd.items() if is_so), "" if leaf.is_floating_point() else str(leaf.dtype))


def _hint(wanted: Flat, found: Flat, head: Head) -> str:
    other = _of_head(wanted) != _of_head(found) and head == "keep"
    first = 'head="new" starts the head afresh and leaves theirs out; ' if other else ""
    box = {name.partition(".")[0] for name in found}
    inside = next(iter(box)) + "." if len(box) == 1 else ""
    if inside and any(name.removeprefix(inside) in wanted for name in found):
        first = f"all names begin with {inside}: give the state_dict without it; "
    return f"{first}fresh=[names of the model] start from init, ignore=[names of the file] are left out, * matches any"
