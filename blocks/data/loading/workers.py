"""The worker processes of a loader, and the way of a batch to the device."""

import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from blocks.data.loading.patience import Patient
from blocks.data.loading.worker_life import begin_worker
from blocks.data.memory import empty

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def data_loader(
    dataset: Any,
    places: Iterable[Any],
    num_workers: int,
    device: torch.device,
    timeout: float,
    persistent: bool = False,
) -> DataLoader:
    """dataset[place] for every place, in order, made ahead in worker processes, or without them here, as it is asked
    for. Each may take `timeout` seconds.

    The generator is our own because torch's loader would draw a seed from the global one.
    """
    watched: Any = OrItsError(dataset) if num_workers else Patient(dataset, timeout)
    return DataLoader(
        watched,
        batch_size=None,
        sampler=places,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        timeout=timeout if num_workers else 0,
        generator=torch.Generator(),
        persistent_workers=persistent and num_workers > 0,
        worker_init_fn=begin_worker,
    )


def from_workers(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches. Raises a worker's OSError as it is, and RuntimeError when a worker process is gone or
    stuck, whatever torch makes of it.
    """
    try:
        for batch in loader:
            if isinstance(batch, OSError):
                raise batch
            yield batch
    except (EOFError, ConnectionError) as error:  # it died while it handed over a batch
        time.sleep(1)  # torch raises in the signal of its death: now, not while this error is being told
        raise RuntimeError("a data worker exited unexpectedly; was it killed for the memory it took?") from error
    except RuntimeError as error:
        if "timed out" not in str(error):
            raise
        raise RuntimeError(
            f"no batch came from {loader.num_workers} data workers within {loader.timeout:g} s: the storage hangs, or "
            "is slower than that; look at it, or give the loader a longer timeout"
        ) from error


@attrs.frozen
class OrItsError:
    """dataset[place], or the OSError in its place: torch would put a traceback where its sentence is."""

    dataset: Any

    def __getitem__(self, place: Any) -> Any:
        try:
            return self.dataset[place]
        except OSError as error:
            error.add_note(traceback.format_exc())
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


class Normalize:
    """uint8 [B, H, W, 3] anywhere -> float32 [B, 3, H, W] on the device, (x / 255 - mean) / std per channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device):
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {mean} and std {std} are not three numbers each, std above 0")
        self.device = device
        self.mean = 255 * torch.tensor(mean, device=device).view(3, 1, 1)
        self.std = 255 * torch.tensor(std, device=device).view(3, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """The normalised copy; the transfer is of bytes, not of floats."""
        images = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        if self.device.type == "cpu":
            floats = empty(*images.shape, dtype=np.float32).copy_(images)
        else:
            floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        return floats.sub_(self.mean).div_(self.std)
