"""Every operation on a batch, against the definition on one Pillow picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from blocks.data.augment import FILL, Op, Plan, batched_ops, policy
from blocks.data.augment.batched_hue import to_hsv, to_rgb
from blocks.data.augment.batched_ops import PIXELS, PLACES, apply_plan
from blocks.data.augment.pillow import apply_all
from tests.data.draws import keys

ARGS = {  # what a plan may hold, from one end to the other
    Op.ROTATE: [-180.0, -90.0, -27.3, -0.01, 0.0, 13.7, 90.0, 270.0],
    Op.POSTERIZE: [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0],
    Op.SOLARIZE: [0.0, 1.0, 26.0, 128.0, 200.0, 254.0, 255.0, 256.0],
    Op.SOLARIZE_ADD: [0.0, 1.0, 33.0, 55.0, 99.0, 110.0, 127.0, 128.0],
    Op.COLOR: [0.0, 0.1, 0.19, 0.5, 1.0, 1.37, 1.81, 3.0],
    Op.SHEAR_X: [-0.3, -0.27, -0.125, 0.0, 0.01, 0.1, 0.25, 0.3],
    Op.TRANSLATE_X: [-0.45, -0.405, -0.125, 0.0, 0.01, 0.25, 0.45, 2.0],
    Op.HUE: [-0.5, -0.3, -0.1, -0.001, 0.0, 0.1, 0.25, 0.5],
    Op.BLUR: [0.0, 0.1, 0.5, 1.0, 1.3, 2.0, 4.0, 9.0],
}
SAME_ARGS = {
    Op.CONTRAST: Op.COLOR,
    Op.BRIGHTNESS: Op.COLOR,
    Op.SHARPNESS: Op.COLOR,
    Op.SHEAR_Y: Op.SHEAR_X,
    Op.TRANSLATE_Y: Op.TRANSLATE_X,
}
SHAPES = [(16, 16), (12, 19), (40, 36), (1, 5), (5, 2)]


def args_of(op):
    return torch.tensor(ARGS.get(SAME_ARGS.get(op, op), [0.0] * 8))


def pictures(height, width, seed=0):
    """Four of noise, and four soft ones of few colours, with gaps in their narrow histograms: uint8 [8, H, W, 3]."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (4, height, width, 3), np.uint8)
    seeds = generator.integers(60, 140, (4, 3, 3, 3), np.uint8)
    soft = [np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC)) for x in seeds]
    return torch.from_numpy(np.concatenate((noise, np.stack(soft))))


def by_pillow(images, plan, interpolation="bicubic", fill=FILL):
    rows = zip(images.numpy(), plan.ops.tolist(), plan.args.tolist(), strict=True)
    done = [apply_all(Image.fromarray(image), ops, args, interpolation, fill) for image, ops, args in rows]
    return torch.stack([torch.tensor(np.asarray(image)) for image in done])


def of_one(op, args):
    return Plan(torch.full((len(args), 1), int(op)), args[:, None])


def test_every_operation_is_here():
    assert set(PIXELS) | set(PLACES) | {Op.NOTHING} == set(Op)
    assert not set(PIXELS) & set(PLACES)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", [Op.NOTHING, *PIXELS], ids=lambda op: op.name)
def test_every_byte_is_pillows(op, shape):
    for order in (slice(None), torch.arange(7, -1, -1)):  # every argument on noise and on a soft picture
        images, plan = pictures(*shape), of_one(op, args_of(op)[order])
        assert torch.equal(apply_plan(images, plan), by_pillow(images, plan))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("op", PLACES, ids=lambda op: op.name)
def test_every_moved_byte_is_pillows(op, interpolation):
    """Values are cut, not rounded, to bytes: where one is nearly whole, the last bit of a cosine decides."""
    for shape in SHAPES:
        images, plan = pictures(*shape), of_one(op, args_of(op))
        difference = apply_plan(images, plan, FILL, interpolation).int() - by_pillow(images, plan, interpolation)
        assert difference.abs().max() <= (op == Op.ROTATE)
        assert (difference != 0).float().mean() < 1e-2


@pytest.mark.parametrize("op", [op for op in PLACES if op != Op.ROTATE], ids=lambda op: op.name)
def test_nearest_takes_pillows_pixel(op):
    images, plan = pictures(12, 19), of_one(op, args_of(op))
    assert torch.equal(apply_plan(images, plan, FILL, "nearest"), by_pillow(images, plan, "nearest"))


def test_what_comes_from_outside_has_the_fill_colour():
    images = pictures(8, 10)
    plan = of_one(Op.TRANSLATE_X, torch.full((8,), 0.5))
    moved = apply_plan(images, plan, (1, 2, 3))
    assert torch.equal(moved[:, :, 5:], torch.tensor([1, 2, 3], dtype=torch.uint8).expand(8, 8, 5, 3))
    assert torch.equal(moved[:, :, :5], images[:, :, 5:])


def test_a_flat_picture_keeps_its_colour_wherever_it_is_turned():
    """Interpolating between equal values must not lose a grey level."""
    images = torch.tensor([10, 200, 90], dtype=torch.uint8).expand(8, 12, 12, 3)
    for op in (Op.ROTATE, Op.SHEAR_Y, Op.BLUR, Op.SHARPNESS, Op.AUTO_CONTRAST, Op.EQUALIZE):
        assert torch.equal(apply_plan(images, of_one(op, args_of(op)), (10, 200, 90)), images)


def test_every_hue_there_and_back_is_pillows():
    """A sixteenth of all colours, each channel in another order; and of all byte triples as hue, saturation, value."""
    steps = torch.arange(0, 256, 5), torch.arange(256), torch.arange(1, 256, 3)
    bytes_ = torch.cartesian_prod(*steps).to(torch.uint8).view(1, 52, 256 * 85, 3)
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        colours = bytes_[..., order].contiguous()
        theirs = Image.fromarray(colours[0].numpy()).convert("HSV")
        assert torch.equal(torch.stack(to_hsv(colours), -1)[0], torch.tensor(np.asarray(theirs)).int())
        planes = [Image.fromarray(plane.numpy()) for plane in colours[0].unbind(-1)]
        back = torch.tensor(np.asarray(Image.merge("HSV", planes).convert("RGB")))
        assert torch.equal(to_rgb(*colours.int().unbind(-1))[0], back)


def mixed_plan(rows, length, chosen, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ops = torch.tensor([int(op) for op in chosen])[torch.randint(len(chosen), (rows, length), generator=generator)]
    which = torch.randint(8, (rows, length), generator=generator)
    table = torch.stack([args_of(op) for op in sorted(Op)])
    return Plan(ops, table[ops, which])


def test_operations_come_one_after_the_other():
    images, plan = pictures(14, 11), mixed_plan(8, 5, [Op.NOTHING, *PIXELS])
    assert torch.equal(apply_plan(images, plan), by_pillow(images, plan))


def test_a_drawn_policy_gives_pillows_pictures():
    """A grey level that a rotation's rounding moves may cross a threshold later."""
    images = pictures(24, 24).repeat(8, 1, 1, 1)
    plan = policy("rand-m9-mstd0.5-inc1").draw(keys(64))
    difference = (apply_plan(images, plan).int() - by_pillow(images, plan)).abs()
    assert (difference > 0).float().mean() < 1e-3


def test_a_large_batch_is_done_in_parts(monkeypatch):
    images, plan = pictures(4, 4), mixed_plan(8, 3, sorted(Op))
    whole = apply_plan(images, plan)
    monkeypatch.setattr(batched_ops, "PIXELS_AT_ONCE", 1)
    assert torch.equal(apply_plan(images, plan), whole)


def test_a_picture_depends_on_its_own_row_alone():
    images, plan = pictures(12, 19), mixed_plan(8, 4, sorted(Op))
    batch, rows = apply_plan(images, plan), torch.tensor([6, 1, 3])
    assert torch.equal(apply_plan(images[rows], Plan(plan.ops[rows], plan.args[rows])), batch[rows])
    turned = images.transpose(1, 2).contiguous().transpose(1, 2)  # other strides, same pictures
    assert torch.equal(apply_plan(turned, plan), batch)


def test_the_pictures_given_are_left_alone():
    images = pictures(12, 12)
    before = images.clone()
    for op in Op:
        done = apply_plan(images, of_one(op, args_of(op)))
        assert torch.equal(images, before)
        assert (done.shape, done.dtype, done.is_contiguous()) == (images.shape, torch.uint8, True)
        assert done.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("op", [*PIXELS, *PLACES], ids=lambda op: op.name)
def test_nothing_waits_for_the_device(op):
    """The meta device has no values: whoever asks for one fails."""
    done = apply_plan(pictures(6, 7).to("meta"), of_one(op, args_of(op)))
    assert (done.shape, done.dtype, done.device.type) == ((8, 6, 7, 3), torch.uint8, "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("op", [*PIXELS, *PLACES], ids=lambda op: op.name)
def test_a_gpu_gives_the_same_bytes(op):
    images, plan = pictures(12, 19), of_one(op, args_of(op))
    there = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        done = apply_plan(there, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    difference = (done.cpu().int() - apply_plan(images, plan)).abs()
    assert difference.max() <= (op in PLACES)  # a fused product and sum, another library's cosine


@pytest.mark.parametrize(
    ("plan", "interpolation", "words"),
    [
        (of_one(Op.INVERT, torch.zeros(3)), "bicubic", "plan for 3 pictures does not fit a batch of 8"),
        (of_one(Op.ROTATE, torch.zeros(8)), "lanczos", "ROTATE does not know 'lanczos'; use one of nearest"),
        (of_one(99, torch.zeros(8)), "bicubic", "99 is not a valid Op"),
    ],
)
def test_what_cannot_be_done_is_refused(plan, interpolation, words):
    with pytest.raises(ValueError, match=words):
        apply_plan(pictures(6, 6), plan, FILL, interpolation)
