"""JPEGs that leave the workers as they are stored, and are decoded and cut on the device."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from blocks.data.canvas import Canvas, whole_pixels
from blocks.data.decode import Encoded, Picture, UnreadableImage, decode_batch
from blocks.data.decode.jpeg import is_plain
from blocks.data.resize import IN_TORCH, scaled
from blocks.data.views import Pictures

DECODES = ("workers", "device")
AT_ONCE = 64  # pictures on the device that are whole: more than its engines take, and 2 GB of photographs at most


def check_decode(decode: str, home: str, cut: Canvas) -> None:
    """Raises ValueError where a picture would not be what the workers make of it."""
    if decode == "workers":
        return
    if home != "device":
        raise ValueError(f"decode {decode!r} has no use with home {home!r}; it is for home='device'")
    if cut.resize != "torch" or cut.interpolation not in IN_TORCH:
        raise ValueError(
            f"decode {decode!r} cannot make canvases by resize {cut.resize!r} and interpolation {cut.interpolation!r}; "
            f"use resize 'torch' and one of {', '.join(IN_TORCH)}, or decode='workers'"
        )


def undecoded(pictures: Sequence[Picture], cut: Canvas) -> Pictures:
    """Plain JPEGs as they are, canvases of the others: "jpegs" uint8 [n], one after the other, "lengths" int64 [b], 0
    for the others, and "images" uint8 [others, S, S, 3]. Raises UnreadableImage.
    """
    stored = [p.data if isinstance(p, Encoded) and is_plain(p.data) else b"" for p in pictures]
    flat = bytearray().join(stored)
    return {
        "jpegs": torch.frombuffer(flat, dtype=torch.uint8) if flat else torch.empty(0, dtype=torch.uint8),
        "lengths": torch.tensor([len(data) for data in stored]),
        "images": cut([picture for picture, data in zip(pictures, stored, strict=True) if not data]),
    }


def in_order(rows: Pictures, order: Tensor) -> Pictures:
    """The rows of a batch in another order, int64 [b]."""
    if "jpegs" not in rows:
        return {name: x[order] for name, x in rows.items()}
    lengths = rows["lengths"]
    jpegs, others = rows["jpegs"].split(lengths.tolist()), (lengths == 0).cumsum(0) - 1
    moved = {
        "jpegs": torch.cat([jpegs[row] for row in order.tolist()]),
        "images": rows["images"][others[order][lengths[order] == 0]],
    }
    return {name: moved[name] if name in moved else x[order] for name, x in rows.items()}


def canvases(batch: Pictures, cut: Canvas, device: torch.device, name: Callable[[int], str]) -> Tensor:
    """What `cut` makes of the pictures that `undecoded` sent, by row: uint8 [b, S, S, 3] on the device.

    On a CPU these are the bytes that the workers would have made, but for large pictures, at least four times the size
    both ways: the workers decode them at reduced scale. Raises ValueError, with the name of the row, for one that no
    worker found damaged, but that neither the device nor the host can decode.
    """
    lengths = batch["lengths"]
    others, plain = (lengths == 0).nonzero()[:, 0], lengths.nonzero()[:, 0]
    made = torch.empty(len(lengths), cut.size, cut.size, 3, dtype=torch.uint8, device=device)
    made.index_copy_(0, others.to(device), batch["images"].to(device, non_blocking=True))
    jpegs = batch["jpegs"].split(lengths.tolist())
    for rows in plain.split(AT_ONCE):
        pictures = [Encoded(jpegs[row].numpy().tobytes(), partial(name, row)) for row in rows.tolist()]
        for row, pixels in zip(rows.tolist(), _decoded(pictures, device), strict=True):
            made[row] = _canvas(pixels, cut)
    return made


def _decoded(pictures: list[Encoded], device: torch.device) -> list[Tensor]:
    try:
        return decode_batch(pictures, device)
    except UnreadableImage as error:
        raise ValueError(
            f"{error}; its markers are those of a whole JPEG, so it was not replaced: decode='workers' replaces it"
        ) from error


def _canvas(pixels: Tensor, cut: Canvas) -> Tensor:
    """The central square of a picture: uint8 [h, w, 3] -> [S, S, 3]."""
    top, left, height, width = whole_pixels((pixels.shape[1], pixels.shape[0]), cut.size)
    box = pixels[top : top + height, left : left + width].contiguous()
    return scaled(box, (cut.size, cut.size), cut.interpolation)
