import pytest
import torch
from torch.nn import functional as F

from blocks import PatchEmbed, key, tree


def test_patches_are_a_convolution_with_stride_equal_to_kernel():
    embed = PatchEmbed(patch_size=4, in_chans=3, embed_dim=10)
    params = tree.cast(embed.init(key(0)), torch.float64)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    convolved = F.conv2d(images, params["proj"]["weight"], params["proj"]["bias"], stride=4)
    torch.testing.assert_close(embed(params, images), convolved.flatten(2).transpose(1, 2), rtol=1e-13, atol=1e-13)
    assert embed.grid(images) == (2, 3)


def test_tokens_are_contiguous():
    embed = PatchEmbed(4, 3, 10)
    assert embed(embed.init(key(0)), torch.randn(2, 3, 8, 12)).is_contiguous()


def test_its_start_is_torch_s_convolution_s():
    """Uniform on +-1/sqrt(fan in), weight and bias."""
    params = PatchEmbed(16, 3, 192).init(key(0))["proj"]
    for leaf in params.values():
        assert leaf.abs().max() <= 768**-0.5
        assert leaf.std() == pytest.approx(768**-0.5 / 3**0.5, rel=0.1)


def test_without_bias_the_weight_starts_the_same():
    plain, bare = (PatchEmbed(4, 3, 10, bias=bias) for bias in (True, False))
    params, images = bare.init(key(0)), torch.randn(2, 3, 8, 12)
    assert params["proj"].keys() == {"weight"}
    weight = plain.init(key(0))["proj"]["weight"]
    assert torch.equal(bare(params, images), plain({"proj": {"weight": weight, "bias": torch.zeros(10)}}, images))


@pytest.mark.parametrize(("height", "width"), [(9, 8), (8, 7), (1, 1), (0, 8)])
def test_an_image_that_patches_do_not_tile_is_an_error_with_both_sizes(height, width):
    embed = PatchEmbed(4, 3, 10)
    with pytest.raises(ValueError, match=rf"{height} x {width} is not tiled by patches of 4 x 4; \d+ x \d+ is"):
        embed(embed.init(key(0)), torch.zeros(1, 3, height, width))
