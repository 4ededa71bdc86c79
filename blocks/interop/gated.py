"""Gated MLPs by the names of ours, `SwiGLU`'s: DINOv2's own giant, DINOv3's larger sizes, timm's and its own."""

import re

import torch

from blocks.tree import Flat

PACKED = ((re.compile(r"\.mlp\.w12\."), ".mlp.fc1."), (re.compile(r"\.mlp\.w3\."), ".mlp.fc2."))
PAIRS = (("fc1_g", "fc1_x"), ("w1", "w2"))  # gate and value, timm's and Meta's


def packed(leaves: Flat) -> Flat:
    """Leaves whose gates and values stand in one fc1, the gate first; leaves of others as they are."""
    found = dict(leaves)
    for gate, value in PAIRS:
        for name in [name for name in leaves if f".mlp.{gate}." in name]:
            other = leaves.get(name.replace(f".mlp.{gate}.", f".mlp.{value}."))
            if other is not None and other.shape == leaves[name].shape:
                del found[name.replace(f".mlp.{gate}.", f".mlp.{value}.")]
                found[name.replace(f".mlp.{gate}.", ".mlp.fc1.")] = torch.cat((found.pop(name), other))
    for theirs, ours in PACKED:
        found = {theirs.sub(ours, name): leaf for name, leaf in found.items()}
    return found
