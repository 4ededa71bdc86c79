"""Which params decay."""

import pytest
import torch

from blocks.optim.adamw import adamw
from blocks.optim.names import no_decay_names

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
