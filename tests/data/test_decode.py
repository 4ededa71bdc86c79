import io

import numpy as np
import pytest
from PIL import Image

from blocks.data.decode import UnreadableImage, decode
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
@pytest.mark.parametrize("limit", [100, 199])
def test_a_decompression_bomb_is_refused_from_pillows_limit_on(monkeypatch, limit):
    """Pillow itself only warns up to twice its limit."""
    data = encoded(picture(0, 20, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match="bomb"):
        decode(data, "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    decode(data, "bomb.png")
