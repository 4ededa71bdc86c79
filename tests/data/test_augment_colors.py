"""Three-augment and colour jitter; and that every policy's rows are functions of their own keys."""

import math
from itertools import permutations

import pytest
import timm.data.auto_augment as theirs
import torch
from torchvision.transforms import ColorJitter as TorchvisionJitter
from torchvision.transforms import functional

from blocks.data.augment import AutoAugment, ColorJitter, Op, RandAugment, ThreeAugment
from blocks.data.augment.pillow import apply, apply_all
from tests.data.draws import expected_often, follows, keys, uniform_below
from tests.data.pictures import picture

ALL = ColorJitter(0.4, 0.5, 0.6, 0.1)
POLICIES = [RandAugment(), AutoAugment(), AutoAugment("v0", mstd=0.5), ThreeAugment(), ALL]
ADJUST = {
    Op.BRIGHTNESS: functional.adjust_brightness,
    Op.CONTRAST: functional.adjust_contrast,
    Op.COLOR: functional.adjust_saturation,
    Op.HUE: functional.adjust_hue,
}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_row_of_a_plan_depends_on_its_own_key_alone(policy):
    plan, rows = policy.draw(keys(50)), torch.tensor([7, 3, 30])
    some = policy.draw(keys(50)[rows])
    assert torch.equal(some.ops, plan.ops[rows])
    assert torch.equal(some.args, plan.args[rows])
    assert (plan.ops.dtype, plan.args.dtype) == (torch.int64, torch.float32)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_other_keys_draw_other_plans_and_nothing_else_is_drawn_from(policy):
    state = torch.get_rng_state()
    assert not torch.equal(policy.draw(keys(50)).args, policy.draw(keys(50, seed=1)).args)
    assert torch.equal(torch.get_rng_state(), state)


def test_three_augment_draws_its_three_equally_often():
    plan = ThreeAugment().draw(keys(9_000))
    counts = torch.stack([(plan.ops == op).sum() for op in (Op.GRAYSCALE, Op.SOLARIZE, Op.BLUR)]).double()
    assert counts.sum() == 9_000
    assert expected_often(counts, torch.full((3,), 3_000.0))
    assert (plan.args[plan.ops == Op.SOLARIZE] == 128).all()


def test_the_blur_of_three_augment_is_uniform():
    plan = ThreeAugment().draw(keys(9_000))
    assert follows(plan.args[plan.ops == Op.BLUR], uniform_below(0.1, 2.0))


def test_three_augment_does_to_a_picture_what_timms_does():
    """Its policy "3a" reaches the same three operations from magnitudes of 5, 10 and 10."""
    solarize, desaturate, blur = (steps[0] for steps in theirs.auto_augment_policy("3a", {}))
    image = picture(0, 12, 13)
    assert apply(image, Op.SOLARIZE, 128.0) == solarize(image)
    assert apply(image, Op.GRAYSCALE, 0.0) == desaturate(image)
    assert blur.level_fn(blur.magnitude, {}) == (1.0,)  # times 2: the largest radius


def test_colour_jitter_is_uniform_in_every_factor_and_order():
    plan = ALL.draw(keys(9_600))
    for op, low, high in (
        (Op.BRIGHTNESS, 0.6, 1.4),
        (Op.CONTRAST, 0.5, 1.5),
        (Op.COLOR, 0.4, 1.6),
        (Op.HUE, -0.1, 0.1),
    ):
        drawn = plan.args[plan.ops == op]
        assert len(drawn) == len(plan)
        assert follows(drawn, uniform_below(low, high))
    orders = [tuple(row) for row in plan.ops.tolist()]
    counts = torch.tensor([orders.count(order) for order in permutations(map(int, ADJUST))]).double()
    assert expected_often(counts, torch.full((24,), 400.0))


def test_the_order_of_colour_jitter_says_nothing_of_its_factors():
    plan = ALL.draw(keys(5_000))
    first = plan.args[plan.ops[:, 0] == Op.HUE][:, 0]
    assert follows(first, uniform_below(-0.1, 0.1))


def test_colour_jitters_intervals_are_torchvisions():
    theirs_, ours = TorchvisionJitter(1.5, (0.2, 3.0), 0.0, 0.5), ColorJitter(1.5, (0.2, 3.0), 0.0, 0.5)
    assert (ours.brightness, ours.contrast, ours.hue) == (theirs_.brightness, theirs_.contrast, theirs_.hue)
    assert theirs_.saturation is None
    assert not (ours.draw(keys(100)).ops == Op.COLOR).any()


def test_colour_jitter_does_to_a_picture_what_torchvisions_does():
    image, plan = picture(0, 12, 13), ALL.draw(keys(8))
    for ops, args in zip(plan.ops.tolist(), plan.args.tolist(), strict=True):
        wanted = image
        for op, arg in zip(ops, args, strict=True):
            wanted = ADJUST[op](wanted, arg)
        assert apply_all(image, ops, args) == wanted


def test_colour_jitter_of_nothing_plans_nothing():
    assert ColorJitter().draw(keys(5)).ops.shape == (5, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ColorJitter(hue=0.6), "hue"),
        (lambda: ColorJitter(hue=(-0.6, 0.0)), "hue"),
        (lambda: ColorJitter(brightness=-0.5), "brightness"),
        (lambda: ColorJitter(contrast=(2.0, 1.0)), "contrast"),
        (lambda: ColorJitter(saturation=math.nan), "saturation"),
        (lambda: ThreeAugment(sigma=(2.0, 0.1)), "sigma"),
    ],
)
def test_a_range_that_is_none_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
