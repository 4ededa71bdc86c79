"""DeiT's augmentation (crop, flip, RandAugment m9-mstd0.5-inc1; uint8 in, uint8 out), images per second, side by side.

    python bench/augment.py --threads 1                                # on pictures made up here
    python bench/augment.py --threads 1 --data 'shards/train-*.tar'    # on real ones, decoded beforehand
    python bench/augment.py --device cuda                              # the device path on the GPU

"workers" is what one data worker does, picture by picture with Pillow, "device" the same draws on a whole batch; timm
and torchvision v2 work picture by picture. "crop" rows are crop and flip alone.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measure import hardware, interleaved, ratio  # bench/measure.py: a script's own folder is on its path
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import v2

from blocks import random
from blocks.data import RandAugment, TrainTransform, open_shards
from blocks.data.index.read import Reader

POLICY, SIZE = "rand-m9-mstd0.5-inc1", 224


def pictures(count: int, canvas: int, data: str | None) -> list[Image.Image]:
    """Square pictures, real or of smooth noise."""
    if data:
        index = open_shards(data)
        reader = Reader(index)
        found = [reader.image(i * len(index) // count) for i in range(count)]
        return [image.resize((canvas, canvas), Image.Resampling.BICUBIC) for image in found]
    noise = (random.uniform(random.key(0), (count, 32, 32, 3)) * 255).to(torch.uint8).numpy()
    return [Image.fromarray(n).resize((canvas, canvas), Image.Resampling.BICUBIC) for n in noise]


def contestants(images: list[Image.Image], device: str, policy: bool) -> dict[str, Callable[[], object]]:
    """One call augments all the pictures."""
    augment = RandAugment() if policy else None
    keys = random.split(random.key(1), len(images))
    workers = TrainTransform(SIZE, policy=augment)
    on_device = TrainTransform(SIZE, policy=augment, home="device", canvas=images[0].width)
    canvases = on_device(images, keys).to(device)
    theirs = create_transform(
        SIZE, is_training=True, auto_augment=POLICY if policy else None, color_jitter=None, interpolation="bicubic",
        use_prefetcher=True,
    )  # fmt: skip
    bicubic = v2.InterpolationMode.BICUBIC
    stages = [v2.RandomResizedCrop(SIZE, interpolation=bicubic, antialias=True), v2.RandomHorizontalFlip()]
    vision = v2.Compose([*stages, *([v2.RandAugment(2, 9, interpolation=bicubic)] if policy else [])])
    return {
        "workers": lambda: workers(images, keys),
        "device": lambda: on_device.finish(canvases, keys),
        "timm": lambda: [theirs(image) for image in images],
        "torchvision v2": lambda: [vision(image) for image in images],
    }


def measure(name: str, images: list[Image.Image], args: argparse.Namespace) -> dict:
    """One row of the table."""
    seconds = interleaved(contestants(images, args.device, policy=name == "policy"), args.rounds)
    return {
        "bench": "augment",
        "row": name,
        "images": len(images),
        "canvas": args.canvas,
        "rounds": args.rounds,
        "device": args.device,
        "images_per_second": {kind: len(images) / statistics.median(s) for kind, s in seconds.items()},
        "over_timm": {k: ratio(seconds["timm"], s) for k, s in seconds.items() if k != "timm"},
        "hardware": hardware(args.device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="shards of real pictures")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--canvas", type=int, default=256, help="pixels of the square pictures that go in")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--out", type=Path, help="append a JSON line a row")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    images = pictures(args.images, args.canvas, args.data)
    print(hardware(args.device))
    for name in ("crop", "policy"):
        row = measure(name, images, args)
        print(f"{name:7} " + "   ".join(f"{k} {v:.0f}/s" for k, v in row["images_per_second"].items()))
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
