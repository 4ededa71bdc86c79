"""The loaders that bench/loader.py measures ours against, each as its own documentation sets it up."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import webdataset as wds
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from blocks.data.loading.workers import IMAGENET_MEAN, IMAGENET_STD

BICUBIC = transforms.InterpolationMode.BICUBIC


def peers(folder: Path, shards: Path, size: int, batch_size: int) -> dict[str, Callable[[int], Iterator]]:
    """By name: number of workers -> batches of one pass."""
    classic = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, interpolation=BICUBIC),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    on_tensors = v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    timms = create_transform(size, is_training=True, color_jitter=None, interpolation="bicubic")
    return {
        "torchvision ImageFolder": _folder(ImageFolder(str(folder), classic), batch_size),
        "torchvision v2, tensors": _folder(_read_as_tensors(folder, on_tensors), batch_size),
        "timm's transform": _folder(ImageFolder(str(folder), timms), batch_size),
        "webdataset": _webdataset(shards, classic, batch_size),
    }


def _read_as_tensors(folder: Path, transform: Callable) -> Dataset:
    def read(path: str) -> torch.Tensor:
        with open(path, "rb") as file:
            return decode_image(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8), ImageReadMode.RGB)

    return ImageFolder(str(folder), transform, loader=read)


def _folder(dataset: Dataset, batch_size: int) -> Callable[[int], Iterator[torch.Tensor]]:
    def stream(workers: int) -> Iterator[torch.Tensor]:
        loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True)
        return (images for images, _ in loader)

    return stream


def _webdataset(shards: Path, transform: Callable, batch_size: int) -> Callable[[int], Iterator[torch.Tensor]]:
    urls = sorted(str(path) for path in shards.glob("train-*.tar"))

    def stream(workers: int) -> Iterator[torch.Tensor]:
        dataset = (
            wds.WebDataset(urls, shardshuffle=100)
            .shuffle(1000)
            .decode("pil")
            .to_tuple("jpg", "cls")
            .map_tuple(transform, lambda label: label)
            .batched(batch_size)
        )
        return (images for images, _ in wds.WebLoader(dataset, batch_size=None, num_workers=workers))

    return stream
