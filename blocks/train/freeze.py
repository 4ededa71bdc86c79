"""Which params are trained, and which stay as they are."""

from functools import lru_cache

from blocks.optim.names import matching
from blocks.optim.optimizer import Optimizer
from blocks.tree import Flat, Tree, flatten


def trainable(flat: Flat, frozen: tuple[str, ...]) -> Flat:
    """The leaves by dotted name, without the frozen ones. Raises what `trainable_names` does."""
    return {name: flat[name] for name in trainable_names(tuple(flat), frozen)} if frozen else flat


@lru_cache(maxsize=64)
def trainable_names(names: tuple[str, ...], frozen: tuple[str, ...]) -> tuple[str, ...]:
    """The names that are not frozen, in order.

    A pattern matches whole names as in a shell: `*` any characters, `?` one. One that begins with "!" frees what
    others froze: ("*", "!head.*") leaves the head. Raises ValueError for a pattern without a match, and when no name is
    left.
    """
    freed = tuple(pattern[1:] for pattern in frozen if pattern.startswith("!"))
    held = matching(names, tuple(p for p in frozen if not p.startswith("!"))) - matching(names, freed)
    left = tuple(name for name in names if name not in held)
    if not left:
        raise ValueError(
            f'frozen {list(frozen)} leaves none of {len(names)} parameters to train; "!head.*" frees a head'
        )
    return left


def check_optimizer_state(optimizer: Optimizer, state: Tree, params: Flat) -> None:
    """Raises ValueError unless the optimizer's state is one for just these params."""
    wanted = flatten(optimizer.init({name: leaf.to("meta") for name, leaf in params.items()})).keys()
    found = flatten(state).keys()
    if wanted != found:
        lacks, has = sorted(wanted - found), sorted(found - wanted)
        what = "; ".join(f"{word} {', '.join(names[:3])}" for word, names in (("lacks", lacks), ("has", has)) if names)
        raise ValueError(
            f"the optimizer's state is not one for the {len(params)} trained parameters: it {what}. "
            "Give init_state and make_step the same optimizer and the same frozen=..."
        )
