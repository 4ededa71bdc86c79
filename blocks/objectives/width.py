"""How wide a model's features are."""

from typing import Any

from blocks.objectives.crops import Model


def feature_width(model: Model, embed_dim: int | None = None) -> int:
    """D of a model's features: as said, or its trunk's. Raises ValueError where neither is known."""
    trunk: Any = getattr(model, "trunk", None)
    width = embed_dim if embed_dim is not None else getattr(trunk, "embed_dim", None)
    if width is None:
        raise ValueError(f"{type(model).__name__} does not say how wide its features are; give embed_dim=...")
    return width
