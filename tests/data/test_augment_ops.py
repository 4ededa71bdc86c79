import numpy as np
import pytest
import timm.data.auto_augment as theirs
from PIL import Image
from torchvision.transforms import functional

from blocks.data.augment import FILL, Op
from blocks.data.augment.ops import AFFINE
from blocks.data.augment.pillow import COEFFICIENTS, COLOUR, FILTERS, apply, apply_all
from tests.data.pictures import picture

FACTORS = [0.0, 0.1, 0.19, 0.75, 1.0, 1.81, 2.5]
CASES = {
    Op.AUTO_CONTRAST: (theirs.auto_contrast, [None]),
    Op.EQUALIZE: (theirs.equalize, [None]),
    Op.INVERT: (theirs.invert, [None]),
    Op.ROTATE: (theirs.rotate, [-27.0, -0.5, 0.0, 9.75, 30.0, 90.0]),
    Op.POSTERIZE: (theirs.posterize, [1, 2, 4, 7, 8]),
    Op.SOLARIZE: (theirs.solarize, [0, 26, 128, 255, 256]),
    Op.SOLARIZE_ADD: (theirs.solarize_add, [0, 33, 99, 128]),
    Op.COLOR: (theirs.color, FACTORS),
    Op.CONTRAST: (theirs.contrast, FACTORS),
    Op.BRIGHTNESS: (theirs.brightness, FACTORS),
    Op.SHARPNESS: (theirs.sharpness, FACTORS),
    Op.SHEAR_X: (theirs.shear_x, [-0.27, 0.125, 0.3]),
    Op.SHEAR_Y: (theirs.shear_y, [-0.27, 0.125, 0.3]),
    Op.TRANSLATE_X: (theirs.translate_x_rel, [-0.405, 0.125, 0.45]),
    Op.TRANSLATE_Y: (theirs.translate_y_rel, [-0.405, 0.125, 0.45]),
    Op.HUE: (functional.adjust_hue, [-0.5, -0.1, -0.001, 0.0, 0.2, 0.5]),
    Op.GRAYSCALE: (lambda image: functional.to_grayscale(image, 3), [None]),
    Op.BLUR: (theirs.gaussian_blur, [0.0, 0.1, 0.7, 2.0, 5.0]),
}


def smooth(seed):
    """A picture of few, soft colours: its histogram is narrow and has gaps."""
    small = picture(seed, 4, 3).point(lambda value: 60 + value // 3)
    return small.resize((24, 19), Image.Resampling.BICUBIC)


PICTURES = {
    "noise": picture(0, 16, 21),
    "smooth": smooth(1),
    "one colour": Image.new("RGB", (12, 12), (10, 200, 90)),
    "one pixel": picture(2, 1, 1),
}


def test_every_operation_has_a_case_and_a_definition():
    assert set(CASES) | {Op.NOTHING} == set(Op)
    assert set(COLOUR) | set(COEFFICIENTS) | {Op.ROTATE} == set(Op)
    assert set(COEFFICIENTS) | {Op.ROTATE} == set(AFFINE)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("op", [op for op in CASES if op not in AFFINE], ids=lambda op: op.name)
def test_colours_are_those_of_timm_and_torchvision(op, name):
    function, args = CASES[op]
    for arg in args:
        wanted = function(PICTURES[name]) if arg is None else function(PICTURES[name], arg)
        assert np.array_equal(apply(PICTURES[name], op, 0.0 if arg is None else float(arg)), wanted), arg


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("op", AFFINE, ids=lambda op: op.name)
def test_affine_operations_are_those_of_timm(op, name, interpolation):
    function, args = CASES[op]
    for arg in args:
        wanted = function(PICTURES[name], arg, resample=FILTERS[interpolation], fillcolor=(1, 20, 255))
        assert np.array_equal(apply(PICTURES[name], op, arg, interpolation, (1, 20, 255)), wanted), arg


def test_nothing_is_the_picture_itself():
    assert np.array_equal(apply(PICTURES["noise"], Op.NOTHING, 3.0), PICTURES["noise"])


def test_no_bits_are_black():
    """Pillow's own function refuses 0 bits, which RandAugment's strongest posterize asks for."""
    assert not np.asarray(apply(PICTURES["noise"], Op.POSTERIZE, 0.0)).any()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_translation_by_whole_pixels_moves_and_fills(interpolation):
    pixels = np.asarray(PICTURES["noise"])  # [16, 21, 3]
    left = np.asarray(apply(PICTURES["noise"], Op.TRANSLATE_X, 2 / 21, interpolation))
    assert np.array_equal(left[:, :-2], pixels[:, 2:])
    assert (left[:, -2:] == FILL).all()
    down = np.asarray(apply(PICTURES["noise"], Op.TRANSLATE_Y, -0.25, interpolation))
    assert np.array_equal(down[4:], pixels[:-4])
    assert (down[:4] == FILL).all()


def test_the_fill_is_imagenets_mean():
    assert tuple(round(255 * value) for value in (0.485, 0.456, 0.406)) == FILL


def test_a_quarter_turn_is_counter_clockwise():
    square = picture(3, 8, 8)
    assert np.array_equal(apply(square, Op.ROTATE, 90.0), np.rot90(np.asarray(square)))


def test_a_sheared_row_comes_from_beside_its_centre():
    """Row y of a picture that is constant along columns' bands: sampled at x + factor * (y + 1/2), nearest."""
    pixels = np.asarray(PICTURES["noise"])
    sheared = np.asarray(apply(PICTURES["noise"], Op.SHEAR_X, 0.3, "nearest"))
    for y in range(16):
        source = np.floor(np.arange(21) + 0.5 + 0.3 * (y + 0.5)).astype(int)
        wanted = np.where(source[:, None] < 21, pixels[y, source.clip(max=20)], FILL)
        assert np.array_equal(sheared[y], wanted)


def test_operations_follow_each_other():
    image = PICTURES["noise"]
    both = apply_all(image, [Op.INVERT, Op.NOTHING, Op.SOLARIZE], [0.0, 0.0, 128.0])
    assert np.array_equal(both, theirs.solarize(theirs.invert(image), 128))
