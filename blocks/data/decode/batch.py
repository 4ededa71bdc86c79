"""Many JPEGs decoded where their pixels are needed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blocks.data.decode.encoded import Encoded
from blocks.data.decode.on_gpu import GPU_DECODERS, Decode, gpu_decoder


def decode_batch(pictures: Sequence[Encoded], device: torch.device) -> list[Tensor]:
    """The pixels of plain JPEGs: uint8 [h, w, 3] on the device, picture by picture. Raises UnreadableImage.

    A GPU decodes them itself: by nvImageCodec (which finds the hardware's engines), else by torchvision. Beside
    libjpeg-turbo, by which everything else here decodes, that may differ by a few grey levels. What the GPU cannot
    decode, and everything where there is none, is decoded by the host, as `Encoded` does. Raises RuntimeError for a
    GPU without a decoder.
    """
    made: list[Tensor | None] = [None] * len(pictures)
    if device.type == "cuda" and pictures:
        made = _tried(GPU_DECODERS[gpu_decoder(device)], [picture.data for picture in pictures], device)
    return [
        torch.from_numpy(picture.pixels()).to(device) if pixels is None else pixels
        for picture, pixels in zip(pictures, made, strict=True)
    ]


def _tried(decode: Decode, jpegs: list[bytes], device: torch.device) -> list[Tensor | None]:
    """All at once, or one by one if that fails; None for those that fail alone."""
    try:
        return decode(jpegs, device)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError):
        return [None] if len(jpegs) == 1 else [x for jpeg in jpegs for x in _tried(decode, [jpeg], device)]
