"""A trained model for another use: other images, other classes, another pool, without dropout."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from blocks.block import Block
from blocks.interop.construction import NAME
from blocks.layers.heads import LinearHead, TanhMlpHead
from blocks.layers.norm import LayerNorm
from blocks.layers.pool import AttentionPool, MeanPool, TokenPool
from blocks.trunks.assemble import image_grid
from blocks.trunks.convit import ConViT
from blocks.trunks.distilled import DistilledModel
from blocks.trunks.model import Model

DROPS = ("attn_drop", "proj_drop", "drop", "drop_path", "head_drop", "rate")  # fields that are rates of dropping
Size = int | tuple[int, int]


def without_drops(description: Any) -> Any:
    """The description of a model that drops nothing."""
    if isinstance(description, list | tuple):
        return [without_drops(item) for item in description]
    if not isinstance(description, Mapping):
        return description
    return {name: 0.0 if name in DROPS else without_drops(value) for name, value in description.items()}


def with_drop_path(description: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """The description with a drop path that grows linearly over the layers to `rate`."""
    layers = description["trunk"]["blocks"]
    rates = [rate * i / max(len(layers) - 1, 1) for i in range(len(layers))]
    trunk = {**description["trunk"], "blocks": [_dropping(*pair) for pair in zip(layers, rates, strict=True)]}
    return {**description, "trunk": trunk}


def _dropping(layer: Any, rate: float) -> Any:
    """A layer's description, also one inside another block, with that rate."""
    if not isinstance(layer, Mapping):
        return layer
    return {name: rate if name == "drop_path" else _dropping(value, rate) for name, value in layer.items()}


def image_size(model: Any) -> Size | None:
    """The pixels of the images that a model's positions are made for; None where it has none."""
    positions, patch = model.trunk.pos_embed, model.trunk.patch_embed.patch_size
    if positions is None:
        return None
    height, width = (side * patch for side in positions.grid)
    return height if height == width else (height, width)


def at_size(model: Any, img_size: Size) -> Any:
    """The model for images of another size. Raises ValueError for one that its patches do not tile."""
    grid = image_grid(img_size, model.trunk.patch_embed.patch_size)
    positions = model.trunk.pos_embed
    if positions is None:
        return model
    return attrs.evolve(model, trunk=attrs.evolve(model.trunk, pos_embed=attrs.evolve(positions, grid=grid)))


def pooling(model: Model, global_pool: Literal["token", "avg"]) -> Model:
    """The model with another feature; its last norm stands where `vit` and `convit` put it.

    Raises ValueError where there is no class token, or one that joins after the last layer.
    """
    trunk: Any = model.trunk
    kinds = {TokenPool: "token", AttentionPool: "map"}
    if global_pool == kinds.get(type(model.pool), "avg"):
        return model
    if global_pool == "token" and (trunk.cls_token is None or getattr(trunk, "cls_layer", 0) == len(trunk.blocks)):
        raise ValueError('global_pool "token" wants a class token that sees the image; leave --global-pool out')
    if isinstance(trunk, ConViT):
        return attrs.evolve(model, pool=TokenPool() if global_pool == "token" else MeanPool(trunk.num_prefix_tokens))
    norm = trunk.norm or getattr(model.pool, "fc_norm", None) or LayerNorm(trunk.embed_dim)
    if global_pool == "token":
        return attrs.evolve(model, trunk=attrs.evolve(trunk, norm=norm), pool=TokenPool())
    return attrs.evolve(model, trunk=attrs.evolve(trunk, norm=None), pool=MeanPool(trunk.num_prefix_tokens, norm))


def classes_of(head: Block | None) -> int | None:
    """How many classes a head tells apart; None for one that does not classify."""
    if isinstance(head, LinearHead):
        return head.out_features
    return head.num_classes if isinstance(head, TanhMlpHead) else None


def with_head(model: Any, num_classes: int) -> Any:
    """The model with a linear head of so many classes in place of its own; 0: without any, for its features."""
    head = LinearHead(model.trunk.embed_dim, num_classes) if num_classes else None
    both = {"head": head, "head_dist": head} if isinstance(model, DistilledModel) else {"head": head}
    return attrs.evolve(model, **both)


def flat(description: Any, place: str = "") -> dict[str, Any]:
    """Values by dotted place: `blocks.0.attn.num_heads`."""
    inner = dict(enumerate(description)) if isinstance(description, list | tuple) else description
    if not isinstance(inner, Mapping):
        return {place: description}
    parts = [flat(value, f"{place}.{name}".lstrip(".")) for name, value in inner.items() if name != NAME]
    own = {f"{place}.{NAME}".lstrip("."): description[NAME]} if NAME in inner else {}
    return {name: value for part in (own, *parts) for name, value in part.items()}
