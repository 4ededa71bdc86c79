"""VISSL's weights under this library's names (facebookresearch/vissl 09270ed: models/trunks, models/heads)."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
from torch import Tensor

from blocks.block import Block, Params
from blocks.interop.entries import every
from blocks.interop.heads import as_ours
from blocks.interop.renaming import renamed, table
from blocks.interop.timm import to_timm
from blocks.interop.trunk import layers_of
from blocks.layers.heads import ProjectionMlp, TanhMlpHead
from blocks.layers.linear import Linear
from blocks.layers.mlp import Mlp
from blocks.layers.norm import LayerNorm
from blocks.tree import Flat
from blocks.trunks.model import Model

BlockT = TypeVar("BlockT", bound=Block)

NORM_EPS = 1e-5  # of its ConViT, and of its first ViT, which bore the same names; its later ViT has 1e-6
MARKS = re.compile(r"^(trunk|heads|base_model)\.|(^|\.)(class_token|pos_embedding)$|\.attn\.alpha$")
OUTSIDE = re.compile(r"^(trunk\.)?(base_model\.)?")
RENAMED = table(
    (r"^class_token$", "cls_token"),
    (r"^pos_embedding$", "pos_embed"),
    (r"\.mlp\.linear_([12])\.", r".mlp.fc\1."),
    (r"\.attn\.alpha$", ".attn.gating_param"),
)
BACK = table(
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "pos_embedding"),
    (r"\.mlp\.fc([12])\.", r".mlp.linear_\1."),
    (r"\.attn\.gating_param$", ".attn.alpha"),
)
TANH = (("heads.0.layers.pre_logits.", "head.fc1."), ("heads.0.layers.head.", "head.fc2."))
LINEAR = (("heads.0.layers.head.", "head."),)
HOMELESS = ("dist_token", "reg_token", "norm_pre.", "head_dist.", "fc_norm.")  # what it has nothing of


def is_vissl(names: Mapping[str, object]) -> bool:
    """Whether these are names of a VISSL model or of its ConViT trunk; those of its ViT trunk alone are timm's."""
    return any(MARKS.search(name) for name in names)


def has_other_eps(names: Mapping[str, object]) -> bool:
    """Whether these are the names of a trunk that normalised with `NORM_EPS`."""
    return any(OUTSIDE.sub("", name) == "class_token" for name in names)


def from_vissl(leaves: Mapping[str, Tensor]) -> Flat:
    """The same leaves by timm's names, the positional features of ConViT folded to three.

    A head, or a chain of them, becomes `head` where it is a linear layer, ViT's tanh MLP, an MLP of ReLUs, SwAV's with
    its prototypes or DINO's; else names stay. A pos_proj.bias, which the softmax takes away, stays as it is.
    Raises ValueError for positional features that are not three kinds.
    """
    heads = {name: leaf for name, leaf in leaves.items() if name.startswith("heads.")}
    trunk = {renamed(OUTSIDE.sub("", name), RENAMED): leaf for name, leaf in leaves.items() if name not in heads}
    for name, leaf in trunk.items():
        if name.endswith(".attn.gating_param"):
            trunk[name] = leaf.flatten()  # [1, h, 1, 1] -> [h]
        elif name.endswith(".attn.pos_proj.weight"):
            trunk[name] = folded(leaf)
    return {**trunk, **_heads(heads)}


def to_vissl(model: Model, params: Params, locality_dim: int = 10) -> dict[str, Any]:
    """The content of a checkpoint from which VISSL starts its vision_transformer or convit: torch.save it to a file.

    Leaves are params' own, but for what ConViT has in another shape: gates [1, h, 1, 1], and `locality_dim` copies of
    each positional feature. Its ConViT norms with eps 1e-5: `with_eps(model)` says here what it computes there. Raises
    ValueError for what has no place there: distillation, registers, a norm before the layers, a mean over patches,
    layer scales, other MLPs, other heads.
    """
    leaves = to_timm(model, params)
    homeless = [n for n in leaves if n.startswith(HOMELESS) or ".ls" in n] + _other_mlps(model)
    if homeless:
        raise ValueError(f"VISSL has no place for {every(homeless)}")
    trunk = {n: t for n, t in leaves.items() if not n.startswith("head.")}
    if any(n.endswith(".gating_param") for n in trunk):
        trunk = {renamed(n, BACK): _unfolded(n, t, locality_dim) for n, t in trunk.items()}
    names = _head_names(model.head)
    heads = {_placed(n, names).removeprefix("heads."): t for n, t in leaves.items() if n.startswith("head.")}
    return {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": heads}}}}


def _other_mlps(model: Model) -> list[str]:
    """What its MLPs of GELUs are not, where names are the same."""
    mlps = {getattr(layer, "mlp", None) for layer in layers_of(model.trunk)}
    kinds = {f"act_layer {mlp.act_layer}" if isinstance(mlp, Mlp) else f"a {type(mlp).__name__}" for mlp in mlps}
    return sorted(kinds - {"act_layer gelu"})


def _unfolded(name: str, leaf: Tensor, copies: int) -> Tensor:
    """A leaf of ConViT in VISSL's shape: the weights of `copies` equal features, whose logits it divides by copies."""
    if name.endswith(".attn.gating_param"):
        return leaf.view(1, -1, 1, 1)
    return leaf.repeat_interleave(copies, 1) if name.endswith(".attn.pos_proj.weight") else leaf


def _head_names(head: Block | None) -> tuple[tuple[str, str], ...]:
    """(theirs, ours) of what names of a head's layers begin with."""
    if head is None or isinstance(head, Linear):
        return (("heads.0.clf.0.", "head."),)
    if isinstance(head, TanhMlpHead):
        return TANH
    if isinstance(head, ProjectionMlp) and head.norm is None and head.last_norm is None:
        return tuple((f"heads.0.clf.{2 * i}.", f"head.layers.{i}.") for i in range(head.depth))  # a ReLU after each
    raise ValueError(f"VISSL has no place for a {type(head).__name__}; give the model and params without their head")


def _placed(name: str, names: tuple[tuple[str, str], ...]) -> str:
    theirs, ours = next(pair for pair in names if name.startswith(pair[1]))
    return theirs + name.removeprefix(ours)


def folded(weight: Tensor) -> Tensor:
    """Weights [h, 3 m] of (dx, dy, dx^2 + dy^2), each m times, for logits over m -> [h, 3]."""
    if weight.shape[1] % 3:
        raise ValueError(f"pos_proj has {weight.shape[1]} features, which are not dx, dy and dx^2 + dy^2 equally often")
    each = weight.unflatten(1, (3, -1))
    first = each[..., :1]
    return (first + (each - first).mean(2, keepdim=True))[..., 0]  # equal ones give just that


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


def _heads(leaves: Flat) -> Flat:
    """The heads' leaves by the names of ours; all as they were where one of them has none."""
    names = TANH if any(name.startswith(TANH[0][0]) for name in leaves) else LINEAR
    found = leaves
    for theirs, ours in names:
        found = {n.replace(theirs, ours) if n.startswith(theirs) else n: t for n, t in found.items()}
    found = as_ours(found)
    return dict(leaves) if any(name.startswith("heads.") for name in found) else found
