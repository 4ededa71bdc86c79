"""VISSL's weights under this library's names (facebookresearch/vissl 09270ed: models/trunks, models/heads)."""

import re
from collections.abc import Mapping
from typing import TypeVar

import attrs
from torch import Tensor

from blocks.block import Block
from blocks.layers.norm import LayerNorm
from blocks.tree import Flat

BlockT = TypeVar("BlockT", bound=Block)

NORM_EPS = 1e-5  # of its ConViT, and of its first ViT, which bore the same names; its later ViT has 1e-6
MARKS = re.compile(r"^(trunk|heads|base_model)\.|(^|\.)(class_token|pos_embedding)$|\.attn\.alpha$")
OUTSIDE = re.compile(r"^(trunk\.)?(base_model\.)?")
RENAMED = (
    (re.compile(r"^class_token$"), "cls_token"),
    (re.compile(r"^pos_embedding$"), "pos_embed"),
    (re.compile(r"\.mlp\.linear_([12])\."), r".mlp.fc\1."),
    (re.compile(r"\.attn\.alpha$"), ".attn.gating_param"),
)
HEAD = re.compile(r"^heads\.0\.(clf\.(?P<place>\d+)|layers\.(?P<layer>pre_logits|head))\.(?P<leaf>weight|bias)$")


def is_vissl(names: Mapping[str, object]) -> bool:
    """Whether these are names of a VISSL model or of its ConViT trunk; those of its ViT trunk alone are timm's."""
    return any(MARKS.search(name) for name in names)


def has_other_eps(names: Mapping[str, object]) -> bool:
    """Whether these are the names of a trunk that normalised with `NORM_EPS`."""
    return any(OUTSIDE.sub("", name) == "class_token" for name in names)


def from_vissl(leaves: Mapping[str, Tensor]) -> Flat:
    """The same leaves by timm's names, the positional features of ConViT folded to three.

    The first head becomes `head` where it is a linear layer, ViT's tanh MLP or an MLP of ReLUs; else names stay.
    Raises ValueError for positional features that are not three kinds.
    """
    heads = {name: leaf for name, leaf in leaves.items() if name.startswith("heads.")}
    trunk = {renamed(name): leaf for name, leaf in leaves.items() if name not in heads}
    features = {name: leaf.shape[1] for name, leaf in trunk.items() if name.endswith(".attn.pos_proj.weight")}
    for name, leaf in trunk.items():
        if name.endswith(".attn.gating_param"):
            trunk[name] = leaf.flatten()  # [1, h, 1, 1] -> [h]
        elif name in features:
            trunk[name] = folded(leaf)
        elif name.endswith(".attn.pos_proj.bias"):
            trunk[name] = leaf / (features[name.removesuffix("bias") + "weight"] // 3)
    return {**trunk, **_head(heads)}


def renamed(name: str) -> str:
    """timm's name of a leaf of a trunk: "trunk.blocks.0.mlp.linear_1.bias" -> "blocks.0.mlp.fc1.bias"."""
    name = OUTSIDE.sub("", name)
    for pattern, new in RENAMED:
        name = pattern.sub(new, name)
    return name


def folded(weight: Tensor) -> Tensor:
    """Weights [h, 3 m] of (dx, dy, dx^2 + dy^2), each m times, for logits over m -> [h, 3]."""
    if weight.shape[1] % 3:
        raise ValueError(f"pos_proj has {weight.shape[1]} features, which are not dx, dy and dx^2 + dy^2 equally often")
    return weight.unflatten(1, (3, -1)).mean(2)


def with_eps(block: BlockT, eps: float = NORM_EPS) -> BlockT:
    """The block with every layer norm in it at `eps`: what a trunk with VISSL's first names needs for equal numbers."""
    if isinstance(block, LayerNorm):
        return attrs.evolve(block, eps=eps)
    fields = [field for field in attrs.fields(type(block)) if field.init]
    return attrs.evolve(block, **{field.name: _with_eps(getattr(block, field.name), eps) for field in fields})


def _with_eps(value: object, eps: float) -> object:
    if isinstance(value, tuple):
        return tuple(_with_eps(item, eps) for item in value)
    return with_eps(value, eps) if isinstance(value, Block) else value


def _head(leaves: Mapping[str, Tensor]) -> Flat:
    """The first head's leaves by the names of ours; all as they were where one of them has none."""
    found = {name: HEAD.match(name) for name in leaves}
    matches = {name: match for name, match in found.items() if match}
    depth = {int(match["place"]) for match in matches.values() if match["place"]}
    has_norms = any(leaves[name].ndim == 1 for name in matches if name.endswith(".weight"))
    if len(matches) < len(leaves) or has_norms:
        return dict(leaves)
    layers = {str(place): f"head.layers.{i}" for i, place in enumerate(sorted(depth))}
    if len(depth) == 1:
        layers = dict.fromkeys(layers, "head")
    elif any(match["layer"] == "pre_logits" for match in matches.values()):
        layers = {"pre_logits": "head.fc1", "head": "head.fc2"}
    elif not depth:
        layers = {"head": "head"}
    return {f"{layers[match['place'] or match['layer']]}.{match['leaf']}": leaves[n] for n, match in matches.items()}
