"""The training transform: all of it in the workers, or a canvas there and the rest on the device."""

import pickle

import attrs
import numpy as np
import pytest
import timm.data.auto_augment as theirs
import torch
from PIL import Image
from torchvision.transforms import functional

from blocks.data.augment import ColorJitter, Op, Plan, RandAugment, ThreeAugment, policy
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.draws import keys
from tests.data.pictures import picture

SIZES = [(20 + i, 30 - i) for i in range(12)]
IMAGES = [picture(i, *size) for i, size in enumerate(SIZES)]
DEIT3 = TrainTransform(16, policy=ThreeAugment(), color_jitter=0.3)


@attrs.frozen
class Always:
    """A policy that plans the same for every picture."""

    ops: tuple[Op, ...]
    args: tuple[float, ...]

    def draw(self, keys):
        return Plan(torch.tensor([self.ops] * len(keys)), torch.tensor([self.args] * len(keys)))


def geometry(transform):
    return attrs.evolve(transform, policy=None, color_jitter=None)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_a_picture_that_is_not_rgb_is_transformed_as_its_rgb(mode):
    opened = [picture(0, 20, 30, mode=mode)] * 2
    wanted = [image.convert("RGB") for image in opened]
    for transform in (EvalTransform(8, 1.0), TrainTransform(8), TrainTransform(8, resize="pillow", home="device")):
        assert torch.equal(transform(opened, keys(2)), transform(wanted, keys(2)))
        assert torch.equal(transform(opened[:1], keys(1)), transform(wanted[:1], keys(1)))


def pictures(batch):
    return [Image.fromarray(row) for row in batch.numpy()]


def stacked(images):
    return torch.from_numpy(np.stack(images))


def test_the_policy_works_on_the_resized_and_mirrored_crop_and_the_jitter_after_it():
    """None of the steps commutes with the next: a move brings in the fill, which the others change."""
    made = Always((Op.TRANSLATE_X, Op.INVERT), (0.25, 0.0))
    transform = TrainTransform(16, flip=1.0, policy=made, color_jitter=ColorJitter(hue=(0.2, 0.2)))
    crops = pictures(geometry(transform)(IMAGES, keys(12)))
    moved = [theirs.translate_x_rel(crop, 0.25, resample=Image.BICUBIC, fillcolor=(124, 116, 104)) for crop in crops]
    wanted = [functional.adjust_hue(theirs.invert(image), 0.2) for image in moved]
    assert torch.equal(transform(IMAGES, keys(12)), stacked(wanted))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_affine_operations_take_the_interpolation_and_the_fill_of_the_transform(interpolation):
    transform = TrainTransform(16, policy=Always((Op.ROTATE,), (20.0,)), interpolation=interpolation, fill=(1, 2, 3))
    resample = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[interpolation]
    crops = pictures(geometry(transform)(IMAGES, keys(12)))
    assert torch.equal(
        transform(IMAGES, keys(12)), stacked([crop.rotate(20, resample, fillcolor=(1, 2, 3)) for crop in crops])
    )


@pytest.mark.parametrize("transform", [TrainTransform(16, policy=RandAugment(num_ops=4)), DEIT3], ids=["rand", "deit3"])
def test_a_picture_depends_on_itself_and_its_key_alone(transform):
    batch, rows = transform(IMAGES, keys(12)), [7, 3, 11]
    assert torch.equal(transform([IMAGES[row] for row in rows], keys(12)[rows]), batch[rows])
    assert not torch.equal(batch, transform(IMAGES, keys(12, seed=1)))


def test_crops_and_flips_stay_what_they_are_without_a_policy():
    """What a policy draws comes from keys of its own."""
    sizes = torch.tensor(SIZES).unbind(1)
    plain, full = (t.draw(keys(12), *sizes) for t in (TrainTransform(16), DEIT3))
    assert torch.equal(plain.boxes, full.boxes)
    assert torch.equal(plain.mirrored, full.mirrored)
    assert plain.plan.ops.shape == (12, 0)


def test_policy_and_jitter_draw_independently():
    jitter = ColorJitter(0.5)
    draws = TrainTransform(16, policy=jitter, color_jitter=jitter).draw(keys(200), *torch.full((2, 200), 9))
    assert (draws.plan.args[:, 0] != draws.plan.args[:, 1]).all()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.0, None),
        (None, None),
        ((0.0, 0.0, 0.0, 0.0), None),
        (0.3, ColorJitter(0.3, 0.3, 0.3)),
        ((0.4, 0.3, 0.2), ColorJitter(0.4, 0.3, 0.2)),
        ((0.0, 0.3, 0.0), ColorJitter(0.0, 0.3, 0.0)),
        ((0.4, 0.3, 0.2, 0.1), ColorJitter(0.4, 0.3, 0.2, 0.1)),
        (ColorJitter(hue=0.5), ColorJitter(hue=0.5)),
    ],
)
def test_colour_jitter_may_be_given_as_numbers(given, meant):
    assert TrainTransform(16, color_jitter=given).color_jitter == meant


def test_a_canvas_is_the_picture_itself_where_it_fits():
    square = [picture(i, 24, 24) for i in range(3)]
    transform = TrainTransform(16, home="device", canvas=24)
    assert torch.equal(transform(square, keys(3)), stacked(square))


def test_a_canvas_is_else_the_resized_centre():
    batch = TrainTransform(16, home="device", resize="pillow")(IMAGES, keys(12))
    assert torch.equal(batch, EvalTransform(16, crop_pct=1.0)(IMAGES))


def in_both_homes(transform):
    """A canvas of the pictures' own size loses nothing: from there on both homes have the same to do."""
    squares = [picture(i, 24, 24) for i in range(100)]
    transform = attrs.evolve(transform, resize="pillow")
    device = attrs.evolve(transform, home="device", canvas=24)
    finished = device.finish(device(squares, keys(100)), keys(100))
    return transform(squares, keys(100)).int(), finished.int()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_crops_and_flips_are_the_same_in_both_homes(interpolation):
    assert torch.equal(*in_both_homes(TrainTransform(16, interpolation=interpolation)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(16, 10), (10, 30)])
def test_oblong_crops_are_the_same_in_both_homes(interpolation, size):
    assert torch.equal(*in_both_homes(TrainTransform(size, interpolation=interpolation)))


def test_an_oblong_is_the_same_box_at_another_size():
    """Height first, as torchvision's; the box has the aspect of a square's."""
    transform = TrainTransform((16, 10), flip=0.0, resize="pillow")
    boxes = TrainTransform(16).draw(keys(12), *torch.tensor(SIZES).unbind(1)).boxes.tolist()
    bicubic = functional.InterpolationMode.BICUBIC
    made = [functional.resized_crop(image, *box, [16, 10], bicubic) for image, box in zip(IMAGES, boxes, strict=True)]
    assert torch.equal(transform(IMAGES, keys(12)), stacked([np.asarray(image) for image in made]))


def test_the_canvas_of_an_oblong_is_a_square_of_its_longer_side():
    assert TrainTransform((16, 10), home="device")(IMAGES, keys(12)).shape == (12, 16, 16, 3)


def test_many_rounds_of_the_same_canvases_are_finished_at_once():
    transform = TrainTransform(16, home="device", policy=RandAugment())
    canvases = transform(IMAGES, keys(12))
    rounds = transform.finish(canvases, keys(36)).chunk(3)
    assert all(torch.equal(r, transform.finish(canvases, k)) for r, k in zip(rounds, keys(36).chunk(3), strict=True))


@pytest.mark.parametrize(
    "transform",
    [TrainTransform(16, policy=RandAugment(num_ops=3)), TrainTransform(16, policy=policy("v0")), DEIT3],
    ids=["rand", "auto", "deit3"],
)
def test_augmentation_is_nearly_the_same_in_both_homes(transform):
    """One grey level where an affine operation rounds otherwise; an operation after it may enlarge that."""
    workers, device = in_both_homes(transform)
    assert (workers != device).float().mean() < 2e-3
    assert (workers - device).abs().float().mean() < 4e-3


def test_the_device_takes_pictures_of_any_size():
    transform = TrainTransform(16, home="device", canvas=33, policy=RandAugment())
    assert transform.finish(transform(IMAGES, keys(12)), keys(12)).shape == (12, 16, 16, 3)


def test_workers_get_their_transform_by_pickle():
    assert pickle.loads(pickle.dumps(DEIT3)) == DEIT3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainTransform((8, 0)), r"img_size \(8, 0\) is not a number of pixels, nor two"),
        (lambda: TrainTransform((8, 8, 3)), r"img_size \(8, 8, 3\)"),
        (lambda: TrainTransform(8, home="gpu"), "'gpu' is not known; use one of workers, device"),
        (lambda: TrainTransform(8, canvas=16), "canvas 16 has no use with home 'workers'"),
        (lambda: TrainTransform(8, home="device", canvas=0), "canvas 0"),
        (lambda: TrainTransform(8, resize="opencv"), "resize 'opencv' is not known; use one of torch, pillow"),
        (lambda: TrainTransform(8, policy=policy("v0"), interpolation="lanczos"), "a policy takes nearest, bilinear"),
        (lambda: TrainTransform(8, policy=9), "policy 9 draws no plans"),
        (lambda: TrainTransform(8, color_jitter=(0.1, 0.2)), "is not one number, nor 3, nor 4"),
        (lambda: TrainTransform(8, color_jitter=-1.0), "brightness"),
    ],
)
def test_a_training_transform_that_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_policy_s_string_stands_for_it_and_the_empty_one_for_none():
    assert TrainTransform(8, policy="rand-m9-mstd0.5-inc1").policy == RandAugment()
    assert TrainTransform(8, policy="").policy is None
