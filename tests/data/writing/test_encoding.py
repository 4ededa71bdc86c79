"""Bytes as they are, or resized and encoded anew."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from blocks.data.decode import UnreadableImage, decode
from blocks.data.writing import Encoding
from tests.data.pictures import encoded, picture


def opened(stored):
    return Image.open(io.BytesIO(stored[0]))


@pytest.mark.parametrize(
    ("format", "given", "extension"),
    [("jpeg", "JPEG", "jpg"), ("jpeg", "", "jpg"), ("gif", "", "gif"), ("tiff", "tif", "tif"), ("bmp", "xyz", "bmp")],
)
def test_by_default_bytes_stay_as_they_are(format, given, extension):
    data = encoded(picture(0), format)
    assert Encoding()(data, given, "a") == (data, extension)


def test_a_format_that_shards_do_not_know_is_unreadable_unless_it_is_encoded_again():
    data = encoded(picture(0, 16, 16), "ico")
    with pytest.raises(UnreadableImage, match="a: ICO cannot be stored as it is"):
        Encoding()(data, "ico", "a")
    assert opened(Encoding(reencode="jpg")(data, "", "a")).size == (16, 16)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (40, 60, (15, 10)),
        (60, 40, (10, 15)),
        (10, 99, (99, 10)),
        (9, 9, (9, 9)),
        (11, 11, (10, 10)),
        (21, 84, (40, 10)),
    ],
)
def test_the_short_side_is_at_most_that_of_resize(height, width, size):
    data = encoded(picture(0, height, width))
    stored, extension = Encoding(resize=10)(data, "png", "a")
    assert Image.open(io.BytesIO(stored)).size == size
    assert extension == "png"
    assert (stored == data) == (min(height, width) <= 10)


def test_resizing_is_antialiased():
    """A board of single black and white pixels becomes grey."""
    board = np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255
    small = np.asarray(opened(Encoding(resize=16)(encoded(Image.fromarray(board)), "png", "a")))
    assert abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 3


@pytest.mark.parametrize(("format", "own"), [("jpeg", "jpg"), ("webp", "webp"), ("gif", "png"), ("tiff", "png")])
def test_a_resized_picture_keeps_its_format_where_it_can(format, own):
    stored = Encoding(resize=5)(encoded(picture(0), format), "", "a")
    assert stored[1] == own
    assert opened(stored).format.lower() == own.replace("jpg", "jpeg")


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK"])
def test_encoding_as_png_changes_no_pixel_of_what_the_decoder_gives(mode):
    data = encoded(picture(0, mode=mode), "tiff" if mode == "CMYK" else "png")
    stored = Encoding(reencode="png")(data, "", "a")
    assert np.array_equal(decode(stored[0], "a"), decode(data, "a"))
    assert opened(stored).mode == ("L" if mode in ("L", "1") else "RGB")


def test_quality_is_that_of_what_is_encoded_again():
    data = encoded(picture(0, 64, 64))
    sizes = [len(Encoding(reencode="webp", quality=q)(data, "", "a")[0]) for q in (10, 50, None)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("target", ["jpg", "png", "webp"])
def test_orientation_and_profile_stay_and_the_pixels_are_not_turned(target):
    """A viewer turns the copy as it turned the original; the decoder turns neither."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(picture(0, 30, 40), "jpeg", exif=exif, icc_profile=profile)
    copy = opened(Encoding(resize=15, reencode=target)(data, "jpg", "a"))
    assert copy.size == (20, 15)
    assert dict(copy.getexif()) == {0x0112: 6}
    assert copy.info["icc_profile"] == profile


def test_a_profile_of_other_colours_is_dropped():
    """It would be read as one of RGB."""
    data = encoded(picture(0, mode="CMYK"), "jpeg", icc_profile=b"of inks")
    assert "icc_profile" not in opened(Encoding(reencode="png")(data, "", "a")).info


def test_a_picture_that_its_format_cannot_hold_is_unreadable():
    data = encoded(Image.new("L", (17_000, 1)))
    with pytest.raises(UnreadableImage, match="a: 17000 x 1 in mode L cannot be stored as webp"):
        Encoding(reencode="webp")(data, "", "a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(resize=0), "resize 0 is not above 0"),
        (dict(reencode="gif"), "reencode 'gif' is none of jpg, png, webp"),
        (dict(reencode="jpg", quality=101), "quality 101 is not in 1 to 100"),
        (dict(reencode="png", quality=50), "quality 50 is of no use"),
        (dict(quality=50), "quality 50 is of no use"),
    ],
)
def test_a_mistake_in_the_options_says_so(options, words):
    with pytest.raises(ValueError, match=words):
        Encoding(**options)
