"""The colour distortion of views: what is drawn, how often, in which order, and what it does to a picture."""

import itertools
import math

import attrs
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import functional

from blocks.data.augment import ColorJitter, Distortion, Op
from blocks.data.transforms import TrainTransform
from tests.data.draws import expected_often, follows, keys, uniform_below
from tests.data.pictures import picture

COUNT = 20_000
JITTERS = {Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.HUE}
FULL = Distortion((0.4, 0.3, 0.2, 0.1), jitter_prob=0.7, grayscale=0.3, blur=0.6, sigma=(0.5, 1.5), solarize=0.2)
THEIRS = {  # torchvision's and Pillow's
    Op.NOTHING: lambda image, _: image,
    Op.BRIGHTNESS: functional.adjust_brightness,
    Op.CONTRAST: functional.adjust_contrast,
    Op.COLOR: functional.adjust_saturation,
    Op.HUE: functional.adjust_hue,
    Op.GRAYSCALE: lambda image, _: functional.rgb_to_grayscale(image, 3),
    Op.BLUR: lambda image, sigma: image.filter(ImageFilter.GaussianBlur(sigma)),
    Op.SOLARIZE: ImageOps.solarize,
}


@pytest.fixture(scope="module")
def plan():
    return FULL.draw(keys(COUNT))


def done(plan):
    """Whether jittered, greyed, blurred, solarized: bool [B, 4]."""
    return torch.cat((plan.ops[:, :1] != 0, plan.ops[:, 4:] != 0), 1)


def test_each_part_comes_as_often_as_asked(plan):
    for drawn, asked in zip(done(plan).unbind(1), (0.7, 0.3, 0.6, 0.2), strict=True):
        assert expected_often(drawn.double().sum(), asked, COUNT)


def test_the_parts_are_drawn_independently(plan):
    correlation = torch.corrcoef(done(plan).double().T) - torch.eye(4)
    assert correlation.abs().max() < 4 / math.sqrt(COUNT)


def test_the_parts_come_in_the_published_order(plan):
    jitter, rest = plan.ops[:, :4], plan.ops[:, 4:]
    jittered = jitter[:, 0] != 0
    assert {frozenset(row) for row in jitter[jittered].tolist()} == {frozenset(JITTERS)}
    assert not jitter[~jittered].any()
    for column, op in zip(rest.unbind(1), (Op.GRAYSCALE, Op.BLUR, Op.SOLARIZE), strict=True):
        assert column.unique().tolist() == [0, op]


def test_the_jitter_comes_in_every_order_equally_often(plan):
    rows = plan.ops[plan.ops[:, 0] != 0, :4].tolist()
    orders = list(itertools.permutations(JITTERS))
    counts = torch.tensor([rows.count(list(order)) for order in orders]).double()
    assert expected_often(counts, torch.full((24,), len(rows) / 24))


def test_factors_and_deviations_are_uniform_in_their_intervals(plan):
    intervals = {
        Op.BRIGHTNESS: (0.6, 1.4),
        Op.CONTRAST: (0.7, 1.3),
        Op.COLOR: (0.8, 1.2),
        Op.HUE: (-0.1, 0.1),
        Op.BLUR: FULL.sigma,
    }
    for op, interval in intervals.items():
        assert follows(plan.args[plan.ops == op], uniform_below(*interval)), op.name
    assert (plan.args[plan.ops == Op.SOLARIZE] == 128).all()
    assert not plan.args[plan.ops == Op.NOTHING].any()


def test_a_part_of_no_chance_is_never_done_and_a_sure_one_always():
    none = Distortion(jitter_prob=0.0, grayscale=0.0, blur=0.0).draw(keys(500))
    assert not none.ops.any()
    sure = Distortion(jitter_prob=1.0, grayscale=1.0, blur=1.0, solarize=1.0).draw(keys(500))
    assert sure.ops.all()


def test_without_jitter_there_is_the_rest():
    plan = Distortion(None, grayscale=1.0).draw(keys(50))
    assert plan.ops.shape == (50, 3)
    assert (plan.ops[:, 0] == Op.GRAYSCALE).all()
    assert Distortion((0.0, 0.0, 0.0, 0.0)).jitter is None
    assert Distortion(0.4).jitter == ColorJitter(0.4, 0.4, 0.4)


def test_a_row_depends_on_its_own_key_alone(plan):
    rows = torch.tensor([17, 3, 1200])
    part = FULL.draw(keys(COUNT)[rows])
    assert torch.equal(part.ops, plan.ops[rows])
    assert torch.equal(part.args, plan.args[rows])


def test_a_picture_becomes_what_torchvision_and_pillow_make_of_it():
    images = [picture(i, 16, 16) for i in range(40)]
    transform = TrainTransform(16, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, policy=FULL)
    draws = transform.draw(keys(40), *torch.full((2, 40), 16))
    wanted = []
    for image, (_, _, ops, args) in zip(images, draws.rows(), strict=True):
        for op, arg in zip(ops, args, strict=True):
            image = THEIRS[op](image, arg)
        wanted.append(np.asarray(image))
    assert torch.equal(transform(images, keys(40)), torch.from_numpy(np.stack(wanted)))
    assert len(draws.plan.ops.unique()) == len(THEIRS)


def test_both_homes_make_the_same_bytes():
    transform = TrainTransform(16, policy=attrs.evolve(FULL, solarize=0.5), resize="pillow")
    squares = [picture(i, 24, 24) for i in range(100)]
    device = attrs.evolve(transform, home="device", canvas=24)
    assert torch.equal(device.finish(device(squares, keys(100)), keys(100)), transform(squares, keys(100)))


def test_values_from_the_threshold_on_are_inverted():
    transform = TrainTransform(8, policy=Distortion(None, grayscale=0, blur=0, solarize=1, threshold=100))
    grey = [Image.new("RGB", (8, 8), (value,) * 3) for value in (99, 100, 255)]
    assert transform(grey, keys(3))[:, 0, 0, 0].tolist() == [99, 155, 0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distortion(jitter_prob=1.5), "jitter_prob 1.5 is not between 0 and 1"),
        (lambda: Distortion(grayscale=-0.1), "grayscale -0.1"),
        (lambda: Distortion(blur=2), "blur 2"),
        (lambda: Distortion(solarize=7), "solarize 7"),
        (lambda: Distortion(sigma=(2.0, 0.1)), r"sigma \(2.0, 0.1\) is not an interval"),
        (lambda: Distortion(threshold=-1), "threshold -1"),
        (lambda: Distortion((0.4, 0.4)), "is not one number, nor 3, nor 4"),
        (lambda: Distortion((0.4, 0.4, 0.4, 0.6)), "hue"),
    ],
)
def test_a_distortion_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
