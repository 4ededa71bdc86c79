import io

import numpy as np
import pytest
from PIL import Image

from blocks.data.decode import UnreadableImage, decode, decoded, rgb
from blocks.data.decode import pixels as box_of
from tests.data.pictures import encoded, picture


def pixels(data):
    image = decode(data, "a picture")
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "CMYK", "P", "RGB"])
def test_every_mode_becomes_rgb_as_pillow_does_it(mode):
    image = picture(0, mode=mode)
    data = encoded(image, "tiff" if mode == "CMYK" else "png")
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_cmyk_jpeg_is_read():
    assert pixels(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "jpeg")).min() == 255


def test_a_palette_with_transparency_keeps_its_colours():
    image = picture(0, mode="P")
    colours = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(encoded(image, transparency=bytes(range(256)))), colours)
    assert np.array_equal(pixels(encoded(image, transparency=3)), colours)


def test_sixteen_bits_keep_the_high_byte():
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    assert pixels(encoded(Image.fromarray(values)))[..., 0].tolist() == [[0, 0, 1], [128, 255, 255]]


@pytest.mark.parametrize(
    ("values", "format"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32), "tiff"),
        (np.linspace(0, 255, 64, dtype=np.float32), "tiff"),
        (np.linspace(0, 255, 64).astype(np.int32), "tiff"),
        (np.linspace(0, 1, 64, dtype=np.float32), "ppm"),
    ],
)
def test_numbers_without_a_white_are_refused(values, format):
    """Taken for bytes or for their high bytes, these were pictures: black ones."""
    with pytest.raises(UnreadableImage, match=r"^a: ValueError: mode [FI] holds 32-bit numbers, .* to 8 bits first"):
        decode(encoded(Image.fromarray(values.reshape(8, 8)), format), "a")


def test_sixteen_bits_of_every_format_keep_the_high_byte():
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    for data in (encoded(Image.fromarray(values), "tiff"), b"P5 3 2 65535\n" + values.astype(">u2").tobytes()):
        assert pixels(data)[..., 0].tolist() == [[0, 0, 1], [128, 255, 255]]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "CMYK", "P", "I;16", "RGB"])
def test_an_opened_picture_has_the_pixels_of_its_bytes(mode):
    """Whole, a box of it, or on its way to many boxes."""
    grey = np.arange(0, 9 * 11 * 600, 600, np.uint16).reshape(9, 11)
    image = Image.fromarray(grey) if mode == "I;16" else picture(0, mode=mode)
    wanted = pixels(encoded(image, "tiff" if mode == "CMYK" else "png"))
    assert np.array_equal(rgb(image), wanted)
    assert np.array_equal(box_of(image, (2, 3, 4, 5)), wanted[2:6, 3:8])
    assert np.array_equal(box_of(decoded(image), (2, 3, 4, 5)), wanted[2:6, 3:8])


def test_one_pixel_is_a_picture():
    assert pixels(encoded(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_orientation_is_left_as_stored():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pixels(encoded(picture(0, 8, 16), "jpeg", exif=exif)).shape == (8, 16, 3)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: b"text", lambda d: d[:30]])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_damaged_picture_is_one_kind_of_error_with_its_name(format, damage):
    data = damage(encoded(picture(0, 40, 40), format))
    with pytest.raises(UnreadableImage, match=r"shard 3, cat: ") as caught:
        decode(data, lambda: "shard 3, cat")
    assert caught.value.name == "shard 3, cat"
    assert caught.value.reason


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [50, 100, 199])
def test_a_decompression_bomb_is_refused_from_pillows_limit_on(monkeypatch, limit):
    """Pillow itself only warns up to twice its limit."""
    data = encoded(picture(0, 20, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match=rf"Bomb.* pixels.* limit of {limit}.* make it smaller first"):
        decode(data, "bomb.png")
    with pytest.raises(UnreadableImage, match=rf"Bomb.* pixels.* limit of {limit}.* make it smaller first"):
        decode(encoded(picture(0, 20, 10), "jpeg"), "bomb.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    decode(data, "bomb.png")
