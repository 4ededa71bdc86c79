"""The published views: their numbers, and that they are drawn so."""

import attrs
import pytest
import torch

from blocks.data import presets
from blocks.data.augment import ColorJitter, Op
from blocks.data.multi_crop import MultiCrop
from tests.data.draws import expected_often, keys
from tests.data.pictures import picture

STRONG, MOCO, WEAK = ((0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1))
TWO = {"scale": (0.08, 1.0)}
PUBLISHED = {  # views of: size, area, filter, jitter, chance of blur and of solarize
    "simclr": [(224, (0.08, 1), "bicubic", STRONG, 0.5, 0)] * 2,
    "moco_v2": [(224, (0.2, 1), "bilinear", MOCO, 0.5, 0)] * 2,
    "moco_v3": [(224, (0.08, 1), "bilinear", WEAK, 1.0, 0), (224, (0.08, 1), "bilinear", WEAK, 0.1, 0.2)],
    "byol": [(224, (0.08, 1), "bicubic", WEAK, 1.0, 0), (224, (0.08, 1), "bicubic", WEAK, 0.1, 0.2)],
    "barlow": [(224, (0.08, 1), "bicubic", WEAK, 1.0, 0), (224, (0.08, 1), "bicubic", WEAK, 0.1, 0.2)],
    "vicreg": [(224, (0.08, 1), "bicubic", WEAK, 0.5, 0.1)] * 2,
    "swav": [(224, (0.14, 1), "bilinear", STRONG, 0.5, 0)] * 2 + [(96, (0.05, 0.14), "bilinear", STRONG, 0.5, 0)] * 6,
    "dino": [(224, (0.4, 1), "bicubic", WEAK, 1.0, 0), (224, (0.4, 1), "bicubic", WEAK, 0.1, 0.2)]
    + [(96, (0.05, 0.4), "bicubic", WEAK, 0.5, 0)] * 8,
    "dinov2": [(224, (0.32, 1), "bicubic", WEAK, 1.0, 0), (224, (0.32, 1), "bicubic", WEAK, 0.1, 0.2)]
    + [(96, (0.05, 0.32), "bicubic", WEAK, 0.5, 0)] * 8,
    "ibot": [(224, (0.25, 1), "bicubic", WEAK, 1.0, 0), (224, (0.25, 1), "bicubic", WEAK, 0.1, 0.2)]
    + [(96, (0.05, 0.25), "bicubic", WEAK, 0.5, 0)] * 10,
}
PRESETS = {name: getattr(presets, f"{name}_views") for name in (*PUBLISHED, "mae")}


def test_no_preset_is_forgotten():
    assert {f"{name}_views" for name in PRESETS} == {name for name in vars(presets) if name.endswith("_views")}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_numbers(name):
    views = PRESETS[name]()
    assert len(views) == len(PUBLISHED[name])
    for view, (size, scale, interpolation, jitter, blur, solarize) in zip(views, PUBLISHED[name], strict=True):
        assert (view.img_size, view.scale, view.interpolation) == (size, scale, interpolation)
        assert (view.ratio, view.flip) == ((3 / 4, 4 / 3), 0.5)
        colours = view.policy
        assert colours.jitter == ColorJitter(*jitter)
        assert (colours.jitter_prob, colours.grayscale, colours.sigma) == (0.8, 0.2, (0.1, 2.0))
        assert (colours.blur, colours.solarize, colours.threshold) == (blur, solarize, 128)


def test_the_one_crop_of_mae_keeps_its_colours():
    (view,) = presets.mae_views()
    assert (view.img_size, view.scale, view.flip, view.interpolation) == (224, (0.2, 1.0), 0.5, "bicubic")
    assert view.policy is view.color_jitter is None


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_each_crop_is_blurred_and_solarized_by_its_own_chance(name):
    count = 2000
    for view, (*_, blur, solarize) in list(zip(PRESETS[name](), PUBLISHED[name], strict=True))[:3]:
        ops = view.draw(keys(count), *torch.full((2, count), 256)).plan.ops
        for op, chance in ((Op.BLUR, blur), (Op.SOLARIZE, solarize)):
            drawn = (ops == op).any(1).double().sum()
            assert drawn == chance * count if chance in (0, 1) else expected_often(drawn, chance, count)


def test_strength_scales_simclr_s_jitter_and_nothing_else():
    weak, strong = (presets.simclr_views(strength=strength)[0] for strength in (0.5, 1.0))
    assert weak.policy.jitter == ColorJitter(0.4, 0.4, 0.4, 0.1)
    assert attrs.evolve(weak.policy, jitter=strong.policy.jitter) == strong.policy
    assert presets.simclr_views(strength=0.0)[0].policy.jitter is None


@pytest.mark.parametrize("home", ["workers", "device"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_works_for_thumbnails_and_for_oblongs(name, home):
    images = [picture(i, 8, 8) for i in range(4)]
    small = {} if "local_size" not in PRESETS[name].__code__.co_varnames else {"local_size": (4, 6), "num_local": 2}
    views = PRESETS[name]((8, 12), flip=0.0, **small)
    assert all(view.flip == 0 for view in views)
    transform = MultiCrop(views, home=home)
    made = transform(images, keys(4))
    crops = made if home == "workers" else transform.finish(made, keys(4))
    shapes = [(4, len(views) - 2 * bool(small), 8, 12, 3)] + [(4, 2, 4, 6, 3)] * bool(small)
    assert [tuple(x.shape) for x in crops.values()] == shapes


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_blur_of_every_view_can_be_made_smaller(name):
    assert {view.policy.sigma for view in PRESETS[name](32, sigma=(0.1, 0.3))} == {(0.1, 0.3)}
