import pytest
import torch
from torchvision.transforms import v2

from blocks.data.augment import flips, random_crop_boxes
from blocks.data.order import augment_keys, epoch_order
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.random import fold_in, key
from tests.data.pictures import picture

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def keys(count, seed=0):
    return fold_in(key(seed), torch.arange(count))


def sizes(count, height, width):
    return torch.full((count,), height), torch.full((count,), width)


def as_tensors(images):
    return torch.stack([v2.functional.pil_to_tensor(image).permute(1, 2, 0) for image in images])


def test_an_epoch_is_a_permutation_and_differs_by_seed_and_epoch():
    orders = [epoch_order(101, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(torch.equal(order.sort().values, torch.arange(101)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(epoch_order(101, 1, 1), orders[3])


def test_the_order_is_uniform():
    """Each of 5 samples comes first in about a fifth of 500 epochs: five standard deviations are 45."""
    first = torch.bincount(torch.stack([epoch_order(5, 0, epoch)[0] for epoch in range(500)]), minlength=5)
    assert (first - 100).abs().max() < 45


def test_crop_boxes_lie_inside_and_have_the_asked_area_and_aspect():
    boxes = random_crop_boxes(keys(4000), *sizes(4000, 300, 400), SCALE, RATIO)
    top, left, height, width = boxes.unbind(1)
    assert (boxes >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 400).all()
    share, aspect = height * width / 120_000, width / height
    assert 0.075 < share.min() < 0.1
    assert share.max() > 0.9
    assert 0.7 < aspect.min() < 0.78
    assert 1.3 < aspect.max() < 1.4


def test_crop_boxes_are_distributed_as_torchvisions():
    """Means over 3,000 boxes agree within five standard errors of torchvision's own draws."""
    ours = random_crop_boxes(keys(3000), *sizes(3000, 60, 80), SCALE, RATIO).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transform = v2.RandomResizedCrop(8, SCALE, RATIO)
        image = torch.zeros(3, 60, 80)
        params = [transform.make_params([image]) for _ in range(3000)]
    theirs = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in params]).double()
    error = (ours.var(0) / 3000 + theirs.var(0) / 3000).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (4, 400, [0, 197, 4, 5]),
        (5, 400, [0, 196, 5, 7]),
        (400, 4, [197, 0, 5, 4]),
        (400, 5, [196, 0, 7, 5]),
        (1, 1, [0, 0, 1, 1]),
    ],
)
def test_a_picture_that_no_box_fits_is_cropped_in_the_centre(height, width, box):
    assert random_crop_boxes(keys(3), *sizes(3, height, width), (1.0, 1.0), RATIO).tolist() == [box] * 3


@pytest.mark.parametrize(
    ("size", "share", "aspect", "box", "moves"),
    [
        ((20, 20), 0.5, 2.0, [10, 20], 0),
        ((20, 20), 0.5, 0.5, [20, 10], 1),
        ((40, 1), 0.1, 0.25, [4, 1], 0),
        ((1, 40), 0.1, 4.0, [1, 4], 1),
    ],
)
def test_a_box_as_long_as_the_picture_fits_and_so_does_one_a_pixel_wide(size, share, aspect, box, moves):
    """Drawn anywhere along the other side; the central one does not move."""
    boxes = random_crop_boxes(keys(100), *sizes(100, *size), (share, share), (aspect, aspect))
    assert boxes[:, 2:].unique(dim=0).tolist() == [box]
    assert len(boxes[:, moves].unique()) > 5
    assert not boxes[:, 1 - moves].any()


@pytest.mark.parametrize(("scale", "ratio"), [((0.01, 0.02), RATIO), (SCALE, (0.1, 0.2)), (SCALE, (5.0, 9.0))])
def test_a_box_has_a_pixel_at_least(scale, ratio):
    assert random_crop_boxes(keys(9), *sizes(9, 1, 1), scale, ratio).tolist() == [[0, 0, 1, 1]] * 9


def test_a_box_depends_on_its_own_key_and_picture_alone():
    heights, widths = torch.randint(1, 50, (2, 40), generator=torch.Generator().manual_seed(0))
    boxes = random_crop_boxes(keys(40), heights, widths, SCALE, RATIO)
    rows = torch.tensor([7, 3, 30])
    assert torch.equal(random_crop_boxes(keys(40)[rows], heights[rows], widths[rows], SCALE, RATIO), boxes[rows])


def test_flips_come_as_often_as_asked():
    assert not flips(keys(100), 0.0).any()
    assert flips(keys(100), 1.0).all()
    assert abs(flips(keys(4000), 0.3).float().mean() - 0.3) < 0.04


def test_training_pixels_are_torchvisions_on_the_same_box():
    images = [picture(i, 20 + i, 30 - i) for i in range(12)]
    heights, widths = torch.tensor([[i.height, i.width] for i in images]).unbind(1)
    boxes = random_crop_boxes(keys(12), heights, widths, SCALE, RATIO).tolist()
    wanted = [
        v2.functional.resized_crop(image, *box, [16, 16], v2.InterpolationMode.BICUBIC)
        for image, box in zip(images, boxes, strict=True)
    ]
    assert torch.equal(TrainTransform(16, flip=0.0, resize="pillow")(images, keys(12)), as_tensors(wanted))
    assert torch.equal(TrainTransform(16, flip=1.0, resize="pillow")(images, keys(12)), as_tensors(wanted).flip(2))


@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
@pytest.mark.parametrize("size", [(50, 70), (70, 51), (9, 5), (1, 1), (32, 32), (3, 200)])
def test_evaluation_pixels_are_those_of_resize_and_centre_crop(size, crop_pct):
    """The box alone is resized, from single-precision corners: rounding may differ in each of the two directions."""
    image = picture(0, *size)
    whole = v2.functional.resize(image, [int(32 / crop_pct)], v2.InterpolationMode.BICUBIC)
    wanted = as_tensors([v2.functional.center_crop(whole, [32, 32])])
    difference = (EvalTransform(32, crop_pct)([image]).int() - wanted.int()).abs()
    assert difference.max() <= 2
    assert (difference > 0).float().mean() < 0.02


@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
@pytest.mark.parametrize("size", [(50, 70), (70, 51), (32, 24), (24, 32), (90, 31), (3, 200)])
def test_evaluation_in_an_oblong_cuts_the_centre_of_the_smallest_that_covers_it(size, crop_pct):
    """As timm resizes for sizes that are no squares, but for its rounding of the longer side."""
    image, img_size = picture(0, *size), (32, 24)
    goal = [int(side / crop_pct) for side in img_size]
    factor = max(wanted / side for wanted, side in zip(goal, size, strict=True))
    covering = [max(wanted, int(side * factor + 1e-9)) for wanted, side in zip(goal, size, strict=True)]
    whole = v2.functional.resize(image, covering, v2.InterpolationMode.BICUBIC)
    wanted = as_tensors([v2.functional.center_crop(whole, [32, 24])])
    difference = (EvalTransform(img_size, crop_pct)([image]).int() - wanted.int()).abs()
    assert difference.max() <= 2
    assert (difference > 0).float().mean() < 0.02


def test_a_very_long_picture_is_evaluated_without_making_all_of_it():
    """Its short side at 224 would be 224 x 13 million pixels."""
    assert EvalTransform(224)([picture(0, 1, 60_000)]).shape == (1, 224, 224, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainTransform(0), "img_size 0"),
        (lambda: TrainTransform(8, scale=(0.5, 0.1)), "scale"),
        (lambda: TrainTransform(8, flip=2), "flip 2"),
        (lambda: TrainTransform(8, interpolation="cubic"), "bicubic"),
        (lambda: EvalTransform(8, crop_pct=1.2), "crop_pct 1.2"),
    ],
)
def test_a_transform_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_augmentation_keys_differ_by_seed_epoch_and_sample():
    batches = [augment_keys(torch.arange(5), seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(row) for batch in batches for row in batch.tolist()}) == 20
