"""Weights as they were found, by timm's names, with what their layout or a config beside them tells of their model."""

from pathlib import Path

import attrs

from blocks.interop import clip, hugging_face
from blocks.interop.beside import told_beside
from blocks.tree import Flat


@attrs.frozen(eq=False)
class Weights:
    """Leaves by timm's names, as found in a file or dictionary of the named layout."""

    layout: str
    leaves: Flat
    left: tuple[str, ...] = ()  # names of another tower's leaves, or of none's
    norm_eps: float | None = None  # of its norms, where more than names tell
    act_layer: str | None = None  # of its MLPs, likewise


def by_timm_s_names(layout: str, leaves: Flat) -> Weights:
    """The weights by timm's names, as far as a whole CLIP's and Hugging Face's go: layers keep what each method has."""
    if clip.is_clip(leaves):
        tower, left = clip.tower(leaves), tuple(name for name in leaves if not name.startswith("visual."))
        act_layer = "quick_gelu" if leaves.keys() & clip.OPENAI_S else None
        return Weights(layout, tower, left, clip.EPS if clip.has_own_tower(leaves) else None, act_layer)
    if hugging_face.is_hugging_face(leaves):
        left = tuple(name for name in leaves if hugging_face.LEFT.search(name))
        eps = hugging_face.VIT_EPS if hugging_face.has_vit_eps(leaves) else None
        return Weights(layout, hugging_face.as_timm(leaves), left, eps)
    return Weights(layout, leaves)


def with_config(found: Weights, path: Path) -> Weights:
    """The weights with what a config beside their file says of them."""
    if not found.layout.startswith((hugging_face.NAME, clip.NAME)) and "norm_pre.weight" not in found.leaves:
        return found
    act_layer, eps = told_beside(path)
    return attrs.evolve(found, act_layer=found.act_layer or act_layer, norm_eps=eps or found.norm_eps)
