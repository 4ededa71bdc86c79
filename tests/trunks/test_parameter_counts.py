"""Published sizes, counted on shapes alone."""

import pytest

import blocks
from blocks import LinearHead, ProjectionMlp, TanhMlpHead, key, tree
from blocks.trunks import vit_variants


def size(block):
    return tree.count(block.init(key(0, device="meta")))


@pytest.mark.parametrize(
    ("factory", "count"), [(blocks.vit_base, 85_771_008), (blocks.vit_large, 303_227_904)], ids=["ViT-B", "ViT-L"]
)
def test_vit_trunks_without_qkv_bias_have_vissl_s_sizes(factory, count):
    assert size(factory(qkv_bias=False).trunk) == count


@pytest.mark.parametrize(
    ("factory", "heads", "vissls"),
    [(blocks.convit_base_plus, 16, 152_114_176), (blocks.convit_small_plus, 9, 48_405_312)],
    ids=["ConViT-B+", "ConViT-S+"],
)
def test_convit_plus_trunks_have_vissl_s_sizes_but_for_its_repeated_positions(factory, heads, vissls):
    """VISSL gives pos_proj each of 3 position features 10 times: 27 superfluous columns a head, in 10 local layers."""
    assert size(factory().trunk) == vissls - 10 * heads * 27


@pytest.mark.parametrize(
    ("head", "count"),
    [
        (TanhMlpHead(768, 3072, 1000), 5_435_368),
        (LinearHead(768, 1000), 769_000),
        (ProjectionMlp(768, 2048, 128), 1_837_184),
        (LinearHead(1024, 1000), 1_025_000),
        (LinearHead(576, 1000), 577_000),
    ],
)
def test_heads_have_vissl_s_sizes(head, count):
    assert size(head) == count


@pytest.mark.parametrize(
    ("factory", "count"),
    [
        (blocks.vit_tiny, 5_717_416),
        (blocks.vit_small, 22_050_664),
        (blocks.vit_base, 86_567_656),
        (blocks.vit_large, 304_326_632),
        (blocks.vit_huge, 632_045_800),
        (blocks.deit_tiny, 5_717_416),
        (blocks.deit_small, 22_050_664),
        (blocks.deit_base, 86_567_656),
        (vit_variants.deit_tiny_distilled, 5_910_800),
        (vit_variants.deit_small_distilled, 22_436_432),
        (vit_variants.deit_base_distilled, 87_338_192),
        (blocks.convit_tiny, 5_710_512),
        (blocks.convit_small, 27_777_322),
        (blocks.convit_base, 86_540_040),
        (blocks.convit_tiny_plus, 9_972_912),
    ],
)
def test_whole_models_have_timm_s_sizes(factory, count):
    assert size(factory()) == count
