"""JPEGs decoded by a GPU, by nvImageCodec or by torchvision: what only a machine that has one can run."""

import functools
import io
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from blocks.data.decode.decoders import nvimgcodec_library, torchvision_decoder

Decode = Callable[[Sequence[bytes], torch.device], list[Tensor | None]]


def by_nvimgcodec(jpegs: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Pixels uint8 [h, w, 3] on the device, which no one copies; None for what it cannot decode."""
    library, decoder, params = _nvimgcodec(device, threading.get_ident())
    stream = _idle_stream(device)
    streams = [library.CodeStream(jpeg) for jpeg in jpegs]
    images = decoder.decode(streams, params=params, cuda_stream=stream.cuda_stream)
    return [None if image is None else torch.from_dlpack(image) for image in images]


def by_torchvision(jpegs: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Pixels uint8 [h, w, 3] on the device. Raises RuntimeError if it cannot decode one of them."""
    decode_jpeg, mode = torchvision_decoder()
    _idle_stream(device)
    encoded = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
    return [planes.permute(1, 2, 0) for planes in decode_jpeg(encoded, mode=mode, device=device)]


GPU_DECODERS: dict[str, Decode] = {"nvimgcodec": by_nvimgcodec, "torchvision": by_torchvision}


@functools.cache
def gpu_decoder(device: torch.device) -> str:
    """The first that decodes a small JPEG there: what is installed may still miss NVIDIA's nvJPEG, or a driver.

    Raises RuntimeError if none does.
    """
    tried = {}
    for name, decode in GPU_DECODERS.items():
        try:
            if decode([_small_jpeg()], device)[0] is not None:
                return name
            tried[name] = "decodes nothing"
        except (ImportError, ValueError, RuntimeError) as error:
            tried[name] = f"{type(error).__name__}: {error}"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in tried.items())
    raise RuntimeError(
        f"no decoder of JPEGs works on {device} ({reasons}); install nvidia-nvjpeg beside the extra fast, or give the "
        "transform decode='workers'"
    )


def _small_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "jpeg")
    return buffer.getvalue()


def _idle_stream(device: torch.device) -> torch.cuda.Stream:
    """The current stream, when it has done all that was asked of it.

    The hardware's engines do not wait for it: they would write into memory that it still reads
    (https://github.com/pytorch/vision/pull/9606).
    """
    stream = torch.cuda.current_stream(device)
    stream.synchronize()
    return stream


@functools.cache
def _nvimgcodec(device: torch.device, thread: int) -> tuple[Any, Any, Any]:
    """The library, a decoder and its settings: the hardware's engines first, and the cores for what these refuse."""
    nvimgcodec = nvimgcodec_library()
    kinds = (nvimgcodec.HW_GPU_ONLY, nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU)
    decoder = nvimgcodec.Decoder(
        device_id=torch.cuda.current_stream(device).device_index,
        backends=[nvimgcodec.Backend(kind) for kind in kinds],
        options=":fancy_upsampling=1",  # smooth colours, as libjpeg-turbo makes them
    )
    return nvimgcodec, decoder, nvimgcodec.DecodeParams(apply_exif_orientation=False)
