"""Whole training loaders, images per second of one core: JPEGs of a folder in, normalised float batches out.

    taskset -c 1 python bench/loader.py --images photographs/
    taskset -c 1 python bench/loader.py --images photographs/ --workers 1 --out loader.jsonl

All crop at random (8 to 100 % of the area), resize to one size by a bicubic filter, mirror and normalise. Ours reads
shards that are written here from the same files, with each decoder that is installed; "exact" resizes as torchvision
and timm do, "kept decoded" decodes no picture twice. Every turn starts a loader, draws the first batch, then those that
were made meanwhile, untimed, and then the timed ones. "small" are pictures of 32 pixels, made up here. FFCV, which has
a file format of its own and did not install, is not among the peers.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import torch
import webdataset as wds
from loader_peers import peers  # bench/loader_peers.py: a script's own folder is on its path
from loader_stages import stages
from measure import hardware, order, ratio
from PIL import Image

from blocks import random
from blocks.data import Index, TrainLoader, TrainTransform, open_shards, write_shards
from blocks.data.decode import DECODERS, Encoded, best_decoder

MEANWHILE = 4  # batches that a worker has made, or is making, when the first one comes
CLASSES = 10
Stream = Callable[[int], Iterator[torch.Tensor]]  # number of workers -> batches


@attrs.frozen
class DecodedBy:
    """A transform of pictures that a certain decoder decodes."""

    decoder: str
    transform: TrainTransform

    def __call__(self, images: list[Encoded], keys: torch.Tensor) -> torch.Tensor:
        return self.transform([Encoded(image.data, image.name, self.decoder) for image in images], keys)


def ours(index: Index, transform: Callable, batch_size: int, decoded: str | None = None) -> Stream:
    def stream(workers: int) -> Iterator[torch.Tensor]:
        loader = TrainLoader(
            index, batch_size=batch_size, transform=transform, num_classes=CLASSES, num_workers=workers, decoded=decoded
        )
        with loader:
            for batch in loader.batches():
                yield batch["images"]

    return stream


def contestants(folder: Path, shards: Path, index: Index, size: int, batch_size: int) -> dict[str, Stream]:
    fast = TrainTransform(size)
    decoders = [name for name in DECODERS if name != "nvimgcodec" or best_decoder() == name]
    made = {f"ours, {name}": ours(index, DecodedBy(name, fast), batch_size) for name in decoders}
    exact = DecodedBy("pillow", TrainTransform(size, resize="pillow"))
    return {**made, "ours, exact": ours(index, exact, batch_size), **peers(folder, shards, size, batch_size)}


def timed(stream: Stream, workers: int, batches: int) -> tuple[float, float]:
    """Seconds to the first batch, and of each of the timed ones."""
    start = time.perf_counter()
    made = stream(workers)
    next(made)
    first = time.perf_counter() - start
    for _ in range(MEANWHILE if workers else 0):
        next(made)
    start = time.perf_counter()
    for _ in range(batches):
        next(made)
    seconds = (time.perf_counter() - start) / batches
    del made
    return first, seconds


def measure(streams: dict[str, Stream], args: argparse.Namespace, workers: int) -> dict[str, dict]:
    """A row for each loader: images per second with quartiles, and over torchvision's ImageFolder."""
    first: dict[str, list[float]] = {name: [] for name in streams}
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    for turn in range(args.rounds):
        for name in order(streams, turn):
            start, each = timed(streams[name], workers, args.batches)
            first[name].append(start)
            seconds[name].append(each)
    return {
        name: {
            "images_per_second": [args.batch_size / s for s in _quartiles(seconds[name])],
            "over_image_folder": ratio(seconds["torchvision ImageFolder"], seconds[name]),
            "first_batch_seconds": statistics.median(first[name]),
        }
        for name in streams
    }


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    """Median, and the quartiles: the slow one first."""
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, high, low


def written(files: Iterator[bytes], folder: Path) -> tuple[Path, Path]:
    """The same JPEGs as an image folder and as shards."""

    def samples() -> Iterator[dict]:
        for i, data in enumerate(files):
            path = folder / "images" / str(i % CLASSES) / f"{i:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            yield {"__key__": f"{i:06d}", "jpg": data, "cls": str(i % CLASSES).encode()}

    write_shards(samples(), folder / "shards", "train", samples_per_shard=250)
    return folder / "images", folder / "shards"


def photographs(folder: Path) -> Iterator[bytes]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return (path.read_bytes() for path in files)


def small(count: int = 2000) -> Iterator[bytes]:
    noise = (random.uniform(random.key(0), (count, 8, 8, 3)) * 255).to(torch.uint8).numpy()
    for picture in noise:
        image = Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC)
        yield wds.writer.imageencoder(image, "jpg")


def report(what: str, workers: int, rows: dict[str, dict], args: argparse.Namespace) -> None:
    print(f"\n{what}, {f'{workers} worker' if workers else 'no worker'}: images/s (quartiles), over ImageFolder")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["images_per_second"][0]):
        middle, low, high = row["images_per_second"]
        over, least, most = row["over_image_folder"]
        print(
            f"{name:26} {middle:7.0f} ({low:.0f} to {high:.0f})   {over:.2f} ({least:.2f} to {most:.2f})   "
            f"first batch {row['first_batch_seconds']:.2f} s"
        )
    save({"row": what, "workers": workers, "loaders": rows}, args)


def save(line: dict, args: argparse.Namespace) -> None:
    knobs = {name: getattr(args, name) for name in ("batch_size", "batches", "rounds")}
    if args.out:
        where = {"bench": "loader", "hardware": hardware(), "cores": len(os.sched_getaffinity(0))}
        with args.out.open("a") as file:
            file.write(json.dumps({**where, **knobs, **line}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEGs, 16 batches or more; without: small ones only")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8, help="timed in every turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, help="append a JSON line a table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{hardware()}; {len(os.sched_getaffinity(0))} cores")
    kinds = [("photographs", photographs(args.images), 224)] if args.images else []
    for what, files, size in [*kinds, ("small", small(), 32)]:
        with tempfile.TemporaryDirectory() as made:
            os.environ["XDG_CACHE_HOME"] = made
            folder, shards = written(files, Path(made))
            index = open_shards(str(shards / "train-*.tar"))
            parts = stages(index, TrainTransform(size), args.batch_size, args.rounds)
            print(f"\n{what}, ms of an image: " + "   ".join(f"{name} {ms:.3f}" for name, ms in parts.items()))
            save({"row": f"{what}, stages", "milliseconds": parts}, args)
            for workers in args.workers:
                streams = contestants(folder, shards, index, size, args.batch_size)
                if what == "small":  # all of one size
                    streams["ours, kept decoded"] = ours(index, TrainTransform(size), args.batch_size, "memory")
                report(what, workers, measure(streams, args, workers), args)


if __name__ == "__main__":
    main()
