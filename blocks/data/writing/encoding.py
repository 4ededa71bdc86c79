"""The bytes to store: those of the file where they can stay, else encoded anew."""

import io
from typing import Any

import attrs
from PIL import Image

from blocks.data.decode import EXTENSIONS, UnreadableImage, decode

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
OWN = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "GIF": "gif",
    "PPM": "ppm",
    "TIFF": "tif",
}
QUALITY = 90
JPEG_NAMES = ("jpeg", "jpe", "jfif")  # of which shards take jpg
ORIENTATION = 0x0112  # EXIF's tag


def _positive(_, field: attrs.Attribute, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{field.name} {value} is not above 0")


@attrs.frozen
class Encoding:
    """What becomes of a picture's bytes; by default nothing.

    With `resize` a picture whose short side is longer is made smaller (Lanczos, antialiased, never enlarged) and
    encoded again, in its own format or, where that is none of jpg, png and webp, as png. With `reencode` (one of
    these) every picture is encoded again. `quality` (1 to 100, 90 if None) is that of jpg and webp.

    Encoded anew, a picture has the 8-bit pixels that the decoder gives: grey or RGB, without transparency, turned no
    other way than they were stored; of an animation there is the first picture. Its colour profile and its EXIF
    orientation go with it, no other metadata does.
    """

    resize: int | None = attrs.field(default=None, validator=_positive)
    reencode: str | None = None
    quality: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.reencode is not None and self.reencode not in FORMATS:
            raise ValueError(f"reencode {self.reencode!r} is none of {', '.join(FORMATS)}")
        if self.quality is None:
            return
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} is not in 1 to 100")
        if self.reencode == "png" or not (self.resize or self.reencode):
            raise ValueError(f"quality {self.quality} is of no use: nothing is encoded as jpg or webp")

    def __call__(self, data: bytes, extension: str, name: str) -> tuple[bytes, str]:
        """Bytes and extension to store; an extension that shards do not know is made of the bytes.

        Raises UnreadableImage for bytes that cannot be decoded.
        """
        picture = decode(data, name)
        header = Image.open(io.BytesIO(data))
        too_large = self.resize is not None and min(picture.size) > self.resize
        own = _known(extension, header)
        if self.reencode is None and not too_large:
            if not own:
                reason = f"{header.format} cannot be stored as it is, only as one of {', '.join(FORMATS)}"
                raise UnreadableImage(name, reason)
            return data, own
        picture = picture.getchannel(0) if header.mode in ("1", "L") else picture
        picture = picture.resize(self._smaller(*picture.size), Image.Resampling.LANCZOS) if too_large else picture
        picture.info = {}  # or Pillow would store more of it
        target = self.reencode or (own if own in FORMATS else "png")
        return self._encoded(picture, target, _kept(header, picture.mode), name), target

    def _smaller(self, width: int, height: int) -> tuple[int, int]:
        assert self.resize is not None
        share = self.resize / min(width, height)
        return max(self.resize, round(width * share)), max(self.resize, round(height * share))

    def _encoded(self, picture: Image.Image, target: str, kept: dict[str, Any], name: str) -> bytes:
        quality = {} if target == "png" else {"quality": self.quality or QUALITY}
        return save(picture, target, name, **quality, **kept)


def save(picture: Image.Image, target: str, name: str, **options: Any) -> bytes:
    """A picture's bytes as jpg, png or webp. Raises UnreadableImage where the format cannot hold it."""
    out = io.BytesIO()
    try:
        picture.save(out, FORMATS[target], **options)
    except (OSError, ValueError) as error:
        width, height = picture.size
        reason = f"{width} x {height} in mode {picture.mode} cannot be stored as {target}: {error}"
        raise UnreadableImage(name, reason) from None
    return out.getvalue()


def _known(extension: str, header: Image.Image) -> str:
    """The extension if shards know it, else that of the bytes, "" if they do not know this either."""
    extension = extension.lower()
    if extension in JPEG_NAMES:
        return "jpg"
    return extension if extension in EXTENSIONS else OWN.get(header.format or "", "")


def _kept(header: Image.Image, mode: str) -> dict[str, Any]:
    """Colour profile, unless the decoder changed to another kind of colours, and EXIF orientation."""
    kept: dict[str, Any] = {}
    profile = header.info.get("icc_profile")
    if profile and (header.mode == mode or header.mode in ("RGBA", "P")):
        kept["icc_profile"] = profile
    try:
        orientation = header.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF raises whatever struct and Pillow do, and turns no picture
        return kept
    if orientation in range(2, 9):  # 1: as it is stored
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        kept["exif"] = exif
    return kept
