"""What no trunk can be made of is refused by the name under which it was given."""

import math

import pytest

from blocks import convit, vit
from blocks.trunks.mae_decoder import mae_decoder

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 4, "num_heads": 2, "num_classes": 3}
MAKES = {
    "vit": lambda **knobs: vit(**TINY | knobs),
    "convit": lambda **knobs: convit(**TINY | {"local_up_to_layer": 1} | knobs),
}
WRONG = [
    ({"drop_path_rate": 1.5}, r"drop_path_rate 1\.5 is not a drop rate; use 0 <= drop_path_rate < 1 \(--drop-path\)"),
    ({"drop_path_rate": -0.1}, r"drop_path_rate -0\.1"),
    ({"drop_path_rate": math.nan}, "drop_path_rate nan"),
    ({"drop_rate": 2}, "head_drop 2 is not a drop rate"),
    ({"depth": 0, "local_up_to_layer": 0}, "depth 0 is not a number of layers|leaves no layer"),
    ({"num_classes": -1}, "num_classes -1 is not a number of classes; use 1 or more, or 0 for features"),
    ({"num_classes": 2.5}, r"num_classes 2\.5"),
    ({"mlp_ratio": 0}, "mlp_ratio 0 of embed_dim 8 is no width of an MLP"),
    ({"mlp_ratio": math.nan}, "mlp_ratio nan"),
    ({"img_size": (8, 8, 8)}, r"img_size \(8, 8, 8\) and patch_size 4 are not whole numbers of pixels"),
    ({"img_size": 8.0}, r"img_size 8\.0"),
    ({"img_size": 0}, "img_size 0 x 0 is not tiled by patch_size 4"),
    ({"patch_size": 3}, "img_size 8 x 8 is not tiled by patch_size 3"),
    ({"patch_size": 0}, "patch_size 0"),
    ({"in_chans": 0}, "in_chans 0 is not a count"),
    ({"embed_dim": 9}, "embed_dim 9 is not a multiple of num_heads 2; 8 and 10 are"),
    ({"global_pool": "max"}, "global_pool 'max' is not known"),
    ({"pos_embed": "rotary"}, "pos_embed 'rotary' is not known"),
]


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize(("knobs", "message"), WRONG)
def test_what_no_trunk_can_be_made_of_is_refused(make, knobs, message):
    knobs = {name: value for name, value in knobs.items() if make is MAKES["convit"] or name != "local_up_to_layer"}
    with pytest.raises(ValueError, match=message):
        make(**knobs)


def test_too_many_local_layers_are_told_by_the_flag():
    with pytest.raises(ValueError, match=r"use at most 3 local layers \(--local-layers\), in Python also class_"):
        MAKES["convit"](local_up_to_layer=4)


def test_a_decoder_is_checked_likewise():
    for knobs, message in (({"drop_path_rate": 1.0}, "drop_path_rate 1.0"), ({"depth": 0}, "depth 0")):
        with pytest.raises(ValueError, match=message):
            mae_decoder(MAKES["vit"](), embed_dim=8, num_heads=2, **knobs)
