"""What no block can be made of is refused where it is made, with its value; so is what is no image."""

import math
import re

import pytest
import torch

import blocks
from blocks import PatchEmbed, key
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.dino_head import DinoHead
from blocks.layers.position import SinCosPosition
from blocks.layers.token import MaskToken
from blocks.layers.weight_norm import Prototypes, WeightNormLinear

SIZED = {
    "Linear": (blocks.Linear, {"in_features": 8, "out_features": 4}),
    "LayerNorm": (blocks.LayerNorm, {"dim": 8}),
    "LayerScale": (lambda dim: blocks.LayerScale(dim, 0.1), {"dim": 8}),
    "BatchNorm": (BatchNorm, {"num_features": 8}),
    "PatchEmbed": (PatchEmbed, {"patch_size": 4, "in_chans": 3, "embed_dim": 8}),
    "ClassToken": (blocks.ClassToken, {"embed_dim": 8}),
    "MaskToken": (MaskToken, {"embed_dim": 8}),
    "WeightNormLinear": (WeightNormLinear, {"in_features": 8, "out_features": 4}),
    "Prototypes": (Prototypes, {"in_features": 8, "num_prototypes": 4}),
}
CASES = [(make, sizes, name) for make, sizes in SIZED.values() for name in sizes]


@pytest.mark.parametrize(("make", "sizes", "name"), CASES)
@pytest.mark.parametrize("value", [0, -1, 2.0, math.nan, "8", None, True])
def test_a_size_is_a_whole_number_from_1_on(make, sizes, name, value):
    with pytest.raises(ValueError, match=f"{name} {value!r} is not a count; use a whole number, 1 or more"):
        make(**{**sizes, name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: blocks.Mlp(8, 0), "0 is not a count"),
        (lambda: blocks.Mlp(8, 12, math.nan), "drop nan is not a drop rate"),
        (lambda: blocks.Dropout(1.0), "rate 1.0 is not a drop rate; use 0 <= rate < 1"),
        (lambda: blocks.DropPath("half"), "rate 'half' is not a drop rate"),
        (lambda: blocks.LayerNorm(8, eps=0.0), "eps 0.0 is not above 0"),
        (lambda: BatchNorm(8, eps=math.nan), "eps nan is not above 0"),
        (lambda: BatchNorm(8, group_size=1), "group_size 1 leaves no variance"),
        (lambda: blocks.Attention(8, 0), "num_heads 0 is not a number of heads"),
        (lambda: blocks.Attention(8, 2.0), r"num_heads 2\.0 is not a number of heads"),
        (lambda: blocks.Attention(8.0, 2), r"embed_dim 8\.0 is not a width"),
        (lambda: blocks.GPSA(10, 4), "embed_dim 10 is not a multiple of num_heads 4; 8 and 12 are"),
        (lambda: SinCosPosition((2, 2), 6), "embed_dim 6 is not a multiple of 4"),
        (lambda: DinoHead(8, 4, norm="layer"), "norm 'layer' is not known; use one of None, batch"),
        (lambda: DinoHead(8, 0, 6, 5), "out_features 0 is not a count"),
        (lambda: blocks.ProjectionMlp(8, 6, 4, norm="x"), "norm 'x' is not known; use one of None, batch"),
        (lambda: blocks.ProjectionMlp(8, 6, 4, activation="tanh"), "'tanh' is not known; use one of relu, gelu"),
        (lambda: blocks.ProjectionMlp(8, 0, 4), "out_features 0 is not a count"),
        (lambda: blocks.TanhMlpHead(8, 6, -1), "out_features -1 is not a count"),
    ],
)
def test_what_no_block_can_be_made_of_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


IMAGES = {
    "gray": (torch.zeros(2, 1, 8, 8), r"images \[2, 1, 8, 8\] are not \[B, 3, H, W\]: .* in_chans 3"),
    "one": (torch.zeros(3, 8, 8), r"images \[3, 8, 8\] are not \[B, 3, H, W\]"),
    "flat": (torch.zeros(8), r"images \[8\] are not \[B, 3, H, W\]"),
    "last": (torch.zeros(2, 8, 8, 3), r"images \[2, 8, 8, 3\] are not \[B, 3, H, W\]"),
    "bytes": (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"images are torch.uint8, .* divide by 255 and normalise"),
    "none": (torch.zeros(0, 3, 8, 8), r"images \[0, 3, 8, 8\] are none: leave an empty batch out"),
}


@pytest.mark.parametrize(("images", "message"), IMAGES.values(), ids=IMAGES)
def test_what_is_no_batch_of_images_is_told_with_both_sides(images, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbed(4, 3, 10)(PatchEmbed(4, 3, 10).init(key(0)), images)
    model = blocks.vit(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=3)
    if images.ndim != 4 or images.shape[-1] == 8:  # (channels last is a grid that patches do not tile)
        with pytest.raises(ValueError, match=message):
            model(model.init(key(0)), images)


@pytest.mark.parametrize("make", [blocks.Attention, blocks.RotaryAttention, blocks.GPSA])
@pytest.mark.parametrize("shape", [(9, 8), (2, 3, 9, 8), (2, 9, 4)])
def test_what_are_no_tokens_is_told_with_both_sides(make, shape):
    """Images of several frames, say, whose axes an attention would read otherwise."""
    layer = make(8, 2)
    for function in (layer, layer.weights):
        with pytest.raises(ValueError, match=rf"tokens {re.escape(str(list(shape)))} are not \[B, N, 8\]"):
            function(layer.init(key(0)), torch.zeros(shape), grid=(3, 3))


def test_the_check_of_images_breaks_no_graph():
    embed = PatchEmbed(4, 3, 10)
    params, images = embed.init(key(0)), torch.randn(2, 3, 8, 8)
    whole = torch.compile(lambda params, images: embed(params, images), fullgraph=True, backend="eager")
    assert torch.equal(whole(params, images), embed(params, images))
    with torch.no_grad():
        double = whole(blocks.tree.cast(params, torch.float64), images.double())
    assert double.dtype == torch.float64
