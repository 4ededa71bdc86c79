"""Params by name: which match a pattern, and which decay."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache

from torch import Tensor

# Roles that no weight decay pulls to zero; vectors (biases, norms, layer scales, gates) are exempt by their shape.
NO_DECAY = ("cls_token", "dist_token", "reg_token", "mask_token", "pos_embed", "gating_param")


@lru_cache(maxsize=64)
def no_decay_names(names: tuple[str, ...], ranks: tuple[int, ...], patterns: tuple[str, ...] | None) -> frozenset[str]:
    """The dotted names, of leaves with these numbers of axes, that do not decay.

    With patterns, those that match one; a pattern without a match is a ValueError. With None, by role: leaves of at
    most one axis, and the tokens, positions and gates in NO_DECAY, of which a model need not have all.
    """
    if patterns is not None:
        return matching(names, patterns)
    return frozenset(n for n, rank in zip(names, ranks, strict=True) if rank <= 1 or n.rpartition(".")[2] in NO_DECAY)


def names_and_ranks(flat: dict[str, Tensor]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Dotted names and numbers of axes, hashable."""
    return tuple(flat), tuple([t.ndim for t in flat.values()])


@lru_cache(maxsize=64)
def matching(names: tuple[str, ...], patterns: tuple[str, ...]) -> frozenset[str]:
    """The names that match a pattern, as a shell does: `*` any characters, `?` one. Each pattern must match a name."""
    found: set[str] = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            raise ValueError(_no_match(pattern, names))
        found.update(hits)
    return frozenset(found)


def _no_match(pattern: str, names: tuple[str, ...]) -> str:
    word = pattern.strip("*?.")
    inside = [name for name in names if word in name]
    lasts = {name.rpartition(".")[2]: name for name in names}
    close = inside or get_close_matches(word, names) or [lasts[c] for c in get_close_matches(word, lasts)] or names
    return f"the name pattern {pattern!r} matches no parameter; names are like {', '.join(close[:3])}"
