"""The table of docs/project.md is true: each row's model has the names, shapes and settings of timm's of that name."""

import re

import pytest
import timm
import torch
from torch import nn

import blocks
from blocks import tree
from blocks.interop.layouts import weights_of
from blocks.layers.norm import LayerNorm
from tests.pages import ROOT
from tests.test_block_contract import values_inside

ROW = re.compile(r"^\| [^|]+ \| `(\w+(?:\.\w+)?)` \| `((?:vit|deit|convit)\w*\(.*\))` \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "project.md").read_text())
ACTIVATIONS = {"GELU": "gelu", "QuickGELU": "quick_gelu", "GELUTanh": "gelu_tanh", "SiLU": "silu"}


def activation(mlp):
    return "silu" if isinstance(mlp, blocks.SwiGLU) else mlp.act_layer


def test_the_table_is_found():
    assert len(ROWS) >= 15


@pytest.mark.parametrize(("name", "code"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_makes_timm_s_model(name, code):
    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False)
    named = weights_of(theirs.state_dict()).leaves  # timm's, but for DINOv3
    ours = eval(code, vars(blocks).copy())
    params = tree.flatten(ours.init(blocks.key(0, device="meta")))
    assert {n: t.shape for n, t in params.items()} == {n: t.shape for n, t in named.items()}
    eps = {norm.eps for norm in values_inside(ours) if isinstance(norm, LayerNorm)}
    assert eps == {norm.eps for norm in theirs.modules() if isinstance(norm, nn.LayerNorm)}
    assert ours.trunk.num_prefix_tokens == theirs.num_prefix_tokens
    for layer, timm_s in zip(ours.trunk.blocks, theirs.blocks, strict=True):
        assert layer.attn.num_heads == timm_s.attn.num_heads
        assert activation(layer.mlp) == ACTIVATIONS[type(timm_s.mlp.act).__name__]
        assert getattr(timm_s.mlp, "gate_last", False) is False
