"""Crop, resize and mirror of a batch, against Pillow's on each picture."""

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from blocks.data.augment import batched_resize
from blocks.data.augment.batched_resize import crop_resize
from blocks.data.augment.pillow import FILTERS

SMOOTH = ("bilinear", "bicubic", "lanczos")
SIZES = [((40, 50), 32), ((50, 40), 32), ((20, 17), 32), ((40, 300), 8)]  # mixed, mixed, up, far down
in_one_call = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow: always rows first")


def problem(count, height, width):
    """Pictures uint8 [B, H, W, 3], boxes within them (the first is all of it), and which to mirror."""
    generator = torch.Generator().manual_seed(height * width)
    images = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    h = torch.randint(1, height + 1, (count,), generator=generator)
    w = torch.randint(1, width + 1, (count,), generator=generator)
    h[0], w[0] = height, width
    top, left = ((torch.rand(count, generator=generator) * (room + 1)).long() for room in (height - h, width - w))
    return images, torch.stack((top, left, h, w), 1), torch.rand(count, generator=generator) < 0.5


def by_pillow(images, boxes, size, interpolation, mirrored, passes):
    """Each picture by itself; `passes` names the sizes (width, height) on the way from a box of that width, height."""
    rows = []
    for image, (top, left, height, width), flip in zip(images, boxes.tolist(), mirrored, strict=True):
        picture = Image.fromarray(image.numpy()).crop((left, top, left + width, top + height))
        for shape in passes(width, height, size):
            picture = picture.resize(shape, FILTERS[interpolation])
        pixels = torch.tensor(np.asarray(picture))
        rows.append(pixels.flip(1) if flip else pixels)
    return torch.stack(rows)


def one_axis_at_a_time(width, height, size):
    columns_first = height - size > 2 * max(0, width - size)
    return [(width, size) if columns_first else (size, height), (size, size)]


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("interpolation", SMOOTH)
def test_every_byte_is_pillows(interpolation, shape, size):
    images, boxes, mirrored = problem(24, *shape)
    wanted = by_pillow(images, boxes, size, interpolation, mirrored, one_axis_at_a_time)
    assert torch.equal(crop_resize(images, boxes, size, interpolation, mirrored), wanted)


@in_one_call
@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("interpolation", SMOOTH)
def test_every_byte_is_that_of_one_call_to_pillow(interpolation, shape, size):
    images, boxes, mirrored = problem(24, *shape)
    wanted = by_pillow(images, boxes, size, interpolation, mirrored, lambda w, h, size: [(size, size)])
    assert torch.equal(crop_resize(images, boxes, size, interpolation, mirrored), wanted)


@in_one_call
@pytest.mark.parametrize("size", [(32, 12), (12, 32), (7, 60)])  # of the crops: (height, width)
@pytest.mark.parametrize("interpolation", SMOOTH)
def test_every_byte_of_an_oblong_is_that_of_one_call_to_pillow(interpolation, size):
    images, boxes, mirrored = problem(24, 40, 50)
    wanted = by_pillow(images, boxes, size, interpolation, mirrored, lambda w, h, size: [size[::-1]])
    assert torch.equal(crop_resize(images, boxes, size, interpolation, mirrored), wanted)


def test_more_boxes_than_pictures_go_round():
    images, boxes, mirrored = problem(6, 20, 30)
    thrice = crop_resize(images[:2], boxes, 8, "bicubic", mirrored)
    assert torch.equal(thrice, crop_resize(images[:2].repeat(3, 1, 1, 1), boxes, 8, "bicubic", mirrored))


def test_nearest_takes_pillows_pixel():
    """Odd sides over an even size: no place lies on the edge between two pixels, where Pillow's running sum decides."""
    images, boxes, mirrored = problem(24, 41, 51)
    boxes[:, 2:] -= (boxes[:, 2:] + 1) % 2
    boxes[:, 2:].clamp_(min=1)
    wanted = by_pillow(images, boxes, 32, "nearest", mirrored, lambda w, h, size: [(size, size)])
    assert torch.equal(crop_resize(images, boxes, 32, "nearest", mirrored), wanted)


def test_the_whole_picture_at_its_own_size_stays():
    images, boxes, mirrored = problem(5, 12, 12)
    boxes[:] = torch.tensor([0, 0, 12, 12])
    for interpolation in ("nearest", *SMOOTH):
        same = crop_resize(images, boxes, 12, interpolation, torch.zeros_like(mirrored))
        assert torch.equal(same, images)
        assert torch.equal(crop_resize(images, boxes, 12, interpolation, torch.ones_like(mirrored)), same.flip(2))


@pytest.mark.parametrize("pixels", [1, 1 << 24])
def test_a_sample_depends_on_its_own_row_alone(pixels, monkeypatch):
    """However many are done at once."""
    images, boxes, mirrored = problem(30, 9, 12)
    batch = crop_resize(images, boxes, 7, "bicubic", mirrored)
    monkeypatch.setattr(batched_resize, "PIXELS_AT_ONCE", pixels)
    rows = torch.tensor([29, 3, 14])
    assert torch.equal(crop_resize(images[rows], boxes[rows], 7, "bicubic", mirrored[rows]), batch[rows])


def test_products_of_eleven_bits_are_enough(monkeypatch):
    """TF32 keeps eleven significant bits of every factor: nothing that is multiplied has more."""
    seen = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: seen.extend((a, b)) or product(a, b))
    crop_resize(*problem(8, 40, 50)[:2], 32, "bicubic", torch.zeros(8, dtype=torch.bool))
    assert len(seen) == 16  # two orders, two axes, two parts of the weights, two factors
    for factor in seen:
        mantissa, _ = torch.frexp(factor)
        assert torch.equal(mantissa * 2**11, (mantissa * 2**11).round())


def test_nothing_waits_for_the_device():
    """The meta device has no values: whoever asks for one fails."""
    images, boxes, mirrored = problem(6, 20, 30)
    resized = crop_resize(images.to("meta"), boxes, 16, "bicubic", mirrored)
    assert (resized.shape, resized.dtype, resized.device.type) == ((6, 16, 16, 3), torch.uint8, "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_a_gpu_gives_the_same_bytes(precision):
    images, boxes, mirrored = problem(24, 40, 50)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        there = crop_resize(images.cuda(), boxes, 32, "bicubic", mirrored).cpu()
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(there, crop_resize(images, boxes, 32, "bicubic", mirrored))


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="'cubic' is not known; use one of nearest, bilinear, bicubic, lanczos"):
        crop_resize(*problem(1, 4, 4)[:2], 4, "cubic", torch.zeros(1, dtype=torch.bool))
