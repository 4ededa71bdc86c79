"""What the heads of recipes say of weight decay, where it differs from the published code's."""

import re
from pathlib import Path

import pytest

from blocks.optim.names import NO_DECAY

RECIPES = Path(__file__).parents[2] / "recipes"
MORE = {  # what their published code decays and ours spares
    "pretrain_mae": ("cls_token", "mask_token"),
    "pretrain_moco_v3": ("cls_token",),
    "pretrain_dino": ("cls_token", "pos_embed"),
    "pretrain_ibot": ("cls_token", "mask_token", "pos_embed"),
    "pretrain_dinov2": ("cls_token", "mask_token", "pos_embed"),
}
WORDS = {"cls_token": "class token", "mask_token": "mask token", "pos_embed": "positions"}


@pytest.mark.parametrize("name", MORE)
def test_a_recipe_that_decays_less_than_its_code_says_so(name):
    head = (RECIPES / f"{name}.py").read_text().split('"""')[1]
    sentence = re.search(r"[Ii]ts code\s+decays [^.]*\.", head)
    assert sentence, "the head says nothing of it"
    said = " ".join(sentence[0].split())
    assert all(WORDS[role] in said for role in MORE[name])
    assert "spared here" in said or "are spared" in said
    assert set(MORE[name]) <= set(NO_DECAY)
