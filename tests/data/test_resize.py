"""Boxes at another size: by torch's kernel for bytes, by Pillow, and from a JPEG at reduced scale."""

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from blocks.data.decode import Encoded, UnreadableImage
from blocks.data.multi_crop import MultiCrop
from blocks.data.resize import resized
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.draws import keys
from tests.data.pictures import encoded, picture

FAST, EXACT = TrainTransform(24), TrainTransform(24, resize="pillow")


def photograph(seed, height, width):
    """Pixels whose frequencies fall off as 1 / f, as those of photographs do, with an edge across."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(height)[:, None, None], np.fft.fftfreq(width)[None, :, None]
    noise = np.fft.fft2(rng.normal(size=(height, width, 3)), axes=(0, 1)) / np.maximum(np.hypot(y, x), 1 / width)
    values = np.fft.ifft2(noise, axes=(0, 1)).real
    values[:, width // 3 :] += 2 * values.std()
    values = (values - values.mean()) / values.std()
    return Image.fromarray((128 + 45 * values).clip(0, 255).astype(np.uint8))


def ramp(height, width):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack((255 * y / height, 255 * x / width, 255 * (x + y) / (width + height)), -1).astype("u1")
    )


def stored(image, **options):
    return Encoded(encoded(image, "jpeg", quality=90, **options), "a picture")


PHOTOGRAPHS = [stored(photograph(i, 60 + 3 * i, 90 - 2 * i)) for i in range(12)]


def psnr(a, b):
    error = (a.double() - b.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_torch_s_kernel_is_a_grey_level_beside_pillow_s(interpolation):
    fast, exact = (attrs.evolve(t, interpolation=interpolation)(PHOTOGRAPHS, keys(12)) for t in (FAST, EXACT))
    difference = (fast.int() - exact.int()).abs()
    assert (difference > 1).float().mean() < 1e-3  # where a bicubic overshoot is cut off between the two directions
    assert difference.float().mean() < 0.05


@pytest.mark.parametrize("interpolation", ["nearest", "lanczos"])
def test_other_filters_are_pillow_s(interpolation):
    fast, exact = (attrs.evolve(t, interpolation=interpolation)(PHOTOGRAPHS, keys(12)) for t in (FAST, EXACT))
    assert torch.equal(fast, exact)


@pytest.mark.parametrize("transform", [FAST, EXACT], ids=["torch", "pillow"])
def test_crops_of_stored_pictures_are_those_of_opened_ones(transform):
    opened = [Image.fromarray(picture.pixels()) for picture in PHOTOGRAPHS]
    assert torch.equal(transform(PHOTOGRAPHS, keys(12)), transform(opened, keys(12)))


@pytest.mark.parametrize("home", ["workers", "device"])
def test_every_decoder_makes_the_same_batch(home):
    transform = attrs.evolve(FAST, home=home)
    made = [
        transform([Encoded(picture.data, "a picture", decoder) for picture in PHOTOGRAPHS], keys(12))
        for decoder in (None, "pillow")
    ]
    assert torch.equal(*made)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("subsampling", [0, 2], ids=["444", "420"])
def test_a_large_box_comes_from_a_reduced_jpeg_close_to_the_whole_one(scale, subsampling):
    """35 decibels: an error of 4 grey levels, where the next pixel of such a picture differs by more."""
    for image, least in ((photograph(0, 70 * scale, 90 * scale), 35), (ramp(70 * scale, 90 * scale), 45)):
        picture = stored(image, subsampling=subsampling)
        box = (3 * scale + 1, 5 * scale - 1, 33 * scale, 45 * scale + 3)
        reduced = resized(picture, box, (32, 40), "bicubic", "torch")
        whole = resized(picture, box, (32, 40), "bicubic", "pillow")
        assert psnr(reduced, whole) > least
        assert abs(reduced.double().mean() - whole.double().mean()) < 0.5


def reductions(monkeypatch, picture, box, size, resize="torch"):
    """The scales that are asked for."""
    asked, reduced = [], Encoded.reduced
    monkeypatch.setattr(Encoded, "reduced", lambda self, scale: asked.append(scale) or reduced(self, scale))
    assert resized(picture, box, size, "bicubic", resize).shape == (*size, 3)
    return asked


@pytest.mark.parametrize(("box", "scales"), [((0, 0, 127, 320), []), ((9, 9, 128, 160), [4]), ((0, 0, 256, 320), [8])])
def test_what_is_left_is_never_below_the_size(monkeypatch, box, scales):
    assert reductions(monkeypatch, stored(ramp(256, 320)), box, (32, 40)) == scales


def test_exact_pixels_never_come_from_a_reduced_jpeg(monkeypatch):
    assert reductions(monkeypatch, stored(ramp(256, 320)), (0, 0, 256, 320), (8, 8), "pillow") == []


@pytest.mark.parametrize("format", ["png", "webp"])
def test_other_formats_have_no_reduced_scale(format):
    picture = Encoded(encoded(ramp(80, 80), format), "a picture")
    assert picture.reduced(2) is None
    box = (0, 0, 80, 80)
    opened = Image.fromarray(picture.pixels())
    assert torch.equal(*(resized(p, box, (10, 10), "bicubic", "torch") for p in (picture, opened)))


def test_the_published_evaluation_is_pillow_s_of_the_whole_picture():
    opened = [Image.fromarray(picture.pixels()) for picture in PHOTOGRAPHS]
    assert torch.equal(EvalTransform(8)(PHOTOGRAPHS), EvalTransform(8)(opened))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (31, 50), (70, 33)])
def test_a_fast_canvas_is_close_to_the_exact_one(size):
    """Its box has whole pixels: of 30 and more the centre moves by less than one in a hundred."""
    picture = [stored(ramp(*size))]
    fast, exact = (attrs.evolve(t, home="device")(picture, keys(1)) for t in (FAST, EXACT))
    assert fast.shape == exact.shape
    assert min(size) == 1 or psnr(fast, exact) > 35


@pytest.fixture
def asked(monkeypatch):
    """The boxes that stored pictures are decoded for."""
    boxes, decoded = [], Encoded.pixels
    monkeypatch.setattr(Encoded, "pixels", lambda self, box=None: boxes.append(box) or decoded(self, box))
    return boxes


def test_a_picture_that_comes_twice_is_decoded_once_and_the_same(asked):
    """At reduced scale too: a crop does not depend on what else is in the batch."""
    first, second, large = PHOTOGRAPHS[0], PHOTOGRAPHS[1], stored(photograph(0, 120, 130))
    pictures = [first, large, second, large, first]
    transform = TrainTransform(24, scale=(0.9, 1.0), ratio=(1.0, 1.0))
    wanted = [transform([picture], key[None])[0] for picture, key in zip(pictures, keys(5), strict=True)]
    asked.clear()
    assert torch.equal(transform(pictures, keys(5)), torch.stack(wanted))
    assert asked.count(None) == 1  # the large one is only asked for at reduced scale
    assert len(asked) == 2


def test_views_of_a_picture_are_cut_from_one_decoded_picture(asked):
    MultiCrop((FAST, TrainTransform(8), FAST))(PHOTOGRAPHS, keys(12))
    assert asked == [None] * 12


def test_a_single_view_decodes_its_box_alone(asked):
    MultiCrop((FAST,))(PHOTOGRAPHS, keys(12))
    assert None not in asked


@pytest.mark.parametrize("transform", [FAST, EXACT, attrs.evolve(FAST, home="device"), EvalTransform(8)])
@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: data[:-2], lambda data: b""])
def test_a_transform_names_the_picture_that_it_cannot_read(transform, damage):
    damaged = Encoded(damage(PHOTOGRAPHS[0].data), "shard 3, cat")
    with pytest.raises(UnreadableImage, match="shard 3, cat") as caught:
        transform([PHOTOGRAPHS[1], damaged], keys(2))
    assert caught.value.picture is damaged


def test_an_opened_picture_need_not_be_a_file():
    assert FAST([picture(0), picture(1)], keys(2)).shape == (2, 24, 24, 3)
