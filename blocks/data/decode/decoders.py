"""The pixels of a box of a plain JPEG, by whichever decoder: the same pixels."""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from blocks.data.decode.pillow import opened, to_rgb

Box = Sequence[int]  # top, left, height, width
_QUIET = threading.Lock()  # one at a time turns stderr off and on again


def by_pillow(data: bytes, box: Box) -> np.ndarray:
    """Any picture, plain or not: uint8 [h, w, 3]."""
    top, left, height, width = box
    return np.array(to_rgb(opened(data)).crop((left, top, left + width, top + height)))


def by_torchvision(data: bytes, box: Box) -> np.ndarray:
    """All of it is decoded, and the box is a part of that."""
    top, left, height, width = box
    decode_jpeg, mode = torchvision_decoder()
    pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=mode)
    return pixels.permute(1, 2, 0).numpy()[top : top + height, left : left + width]


def by_nvimgcodec(data: bytes, box: Box) -> np.ndarray:
    """Colours are made for the box alone, and what lies below it is not read."""
    top, left, height, width = box
    if width == 1:  # in the first column it would repeat the colours, which all others interpolate
        return by_pillow(data, box)
    library, decoder, params = _nvimgcodec(os.getpid(), threading.get_ident())
    part = library.CodeStream(data).get_sub_code_stream(0, library.Region(top, left, top + height, left + width))
    pixels = decoder.decode(part, params=params)
    if pixels is None:
        raise ValueError("nvImageCodec cannot decode it")
    return np.asarray(pixels)


DECODERS: dict[str, Callable[[bytes, Box], np.ndarray]] = {
    "pillow": by_pillow,
    "torchvision": by_torchvision,
    "nvimgcodec": by_nvimgcodec,
}


@functools.cache
def best_decoder() -> str:
    """The fastest that is installed: nvImageCodec is the extra `fast`, and torchvision is about to give its own up."""
    for name, load in (("nvimgcodec", nvimgcodec_library), ("torchvision", torchvision_decoder)):
        try:
            load()
        except ImportError:
            continue
        return name
    return "pillow"


@functools.cache
def torchvision_decoder() -> tuple[Callable, Any]:
    from torchvision.io import ImageReadMode, decode_jpeg  # takes a second or more: only for who decodes by it

    return decode_jpeg, ImageReadMode.RGB


@functools.cache
def nvimgcodec_library() -> Any:
    if sys.stderr is None:  # and 2 may be the number of a run's own file
        raise ImportError("nvImageCodec talks to the standard error, which is closed; open it (2>/dev/null)")
    with _QUIET, _quiet():
        from nvidia import nvimgcodec
    return nvimgcodec


@functools.cache
def _nvimgcodec(process: int, thread: int) -> tuple[Any, Any, Any]:
    """The library, a decoder on the CPU and its settings: no two threads may share one, nor processes after a fork."""
    nvimgcodec = nvimgcodec_library()
    decoder = nvimgcodec.Decoder(
        device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
        backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)],
        max_num_cpu_threads=1,
        options=":fancy_upsampling=1",  # smooth colours, as all others make them
    )
    return nvimgcodec, decoder, nvimgcodec.DecodeParams(apply_exif_orientation=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """nvImageCodec tells stderr which libraries for GPUs it misses, and later what Pillow says again as an error."""
    verbosity = os.environ.get("PYNVIMGCODEC_VERBOSITY")
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # read once, at import
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        if verbosity is None:
            del os.environ["PYNVIMGCODEC_VERBOSITY"]
