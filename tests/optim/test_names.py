"""Which params decay."""

import pytest
import torch

from blocks.optim.adamw import adamw
from blocks.optim.names import no_decay_names
from blocks.random import key
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit

NAMES = {
    "cls_token": (1, 1, 4),
    "pos_embed": (1, 5, 4),
    "patch_embed.proj.weight": (4, 3, 2, 2),
    "blocks.0.attn.gating_param": (2,),
    "blocks.0.attn.qkv.weight": (12, 4),
    "blocks.0.attn.qkv.bias": (12,),
    "blocks.0.ls1.gamma": (4,),
    "norm.weight": (4,),
    "head.weight": (3, 4),
}
RANKS = tuple(len(shape) for shape in NAMES.values())


def exempt(patterns):
    return no_decay_names(tuple(NAMES), RANKS, patterns)


def test_by_default_only_matrices_that_are_no_tokens_or_positions_decay():
    assert set(NAMES) - exempt(None) == {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"}


def test_patterns_replace_the_default():
    assert exempt(("*.bias", "head.*")) == {"blocks.0.attn.qkv.bias", "head.weight"}
    assert exempt(()) == frozenset()


@pytest.mark.parametrize(
    ("pattern", "close"),
    [("*.qkv", "blocks.0.attn.qkv.weight"), ("class_token", "cls_token"), ("pos_embd", "pos_embed")],
)
def test_a_pattern_that_matches_nothing_is_an_error_that_names_close_names(pattern, close):
    with pytest.raises(ValueError, match="matches no parameter") as caught:
        exempt(("*.bias", pattern))
    assert repr(pattern) in str(caught.value)
    assert close in str(caught.value)


def test_the_optimizer_refuses_the_pattern_before_the_first_step():
    with pytest.raises(ValueError, match="'gates' matches no parameter"):
        adamw(1e-3, no_decay=("gates",)).init({"w": torch.zeros(2)})


TINY = {"img_size": 32, "patch_size": 16, "depth": 2, "num_classes": 3}
MATRICES = {"attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"}
PLAIN, LOCAL = MATRICES | {"attn.qkv.weight"}, MATRICES | {"attn.qk.weight", "attn.v.weight", "attn.pos_proj.weight"}


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (vit(**TINY, embed_dim=8, num_heads=2, init_values=1e-5), (PLAIN, PLAIN)),
        (convit(**TINY, embed_dim=8, num_heads=4, local_up_to_layer=1), (LOCAL, PLAIN)),
    ],
    ids=["vit", "convit"],
)
def test_in_real_trunks_what_decays_is_the_patch_convolution_the_layers_matrices_and_the_head(model, layers):
    words = adamw(1e-3).describe(model.init(key(0)))
    inside = {f"blocks.{i}.{name}" for i, names in enumerate(layers) for name in names}
    decayed = {name for name, word in words.items() if word == "weight decay 0.05"}
    assert decayed == inside | {"patch_embed.proj.weight", "head.weight"}
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.attn.proj.bias"} <= words.keys() - decayed
    assert ("blocks.0.attn.gating_param" in words) == (layers[0] is LOCAL)


def test_names_that_differ_in_patterns_or_ranks_are_not_taken_for_each_other():
    """What is kept from one call to the next is kept by all that it depends on."""
    names = ("a", "b")
    assert no_decay_names(names, (1, 2), None) == {"a"}
    assert no_decay_names(names, (2, 1), None) == {"b"}
    assert no_decay_names(names, (2, 1), ("a",)) == {"a"}
