"""The trunk in a model or an objective, and its layers, whatever stands in their place."""

from typing import Any

from blocks.layers.encoder import inner


def trunk_of(model: object) -> Any:
    """That of a model, or of an objective's; None where there is none."""
    trunk = getattr(model, "trunk", None)
    return getattr(getattr(model, "model", None), "trunk", trunk)


def layers_of(trunk: Any) -> tuple[Any, ...]:
    """The layers of a trunk of this library's, () of any other."""
    return tuple(inner(layer) for layer in getattr(trunk, "blocks", ()))
