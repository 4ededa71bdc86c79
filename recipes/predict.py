r"""What a trained model says of pictures: classes and their probabilities, on the terminal or as a CSV file.

python recipes/convit_supervised.py && python recipes/predict.py --weights runs/convit_supervised --images photos/
    a run's folder says its model, how it saw images, and the names of its classes

torchrun --nproc-per-node 8 recipes/predict.py --weights model.safetensors --images 'photos/**/*.jpg' --out said.csv
    a file of `blocks.save(path, model, params, metadata=run.metadata)` says them too; for the weights of others
    give --model, --img-size and --classes
"""

import csv
import sys
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import torch

import blocks
from blocks import tree
from blocks.checks import count
from blocks.data import PictureLoader, picture_files
from blocks.data.printable import printable
from blocks.data.seen import seen_as
from blocks.interop.checkpoints import load_weights
from blocks.interop.chosen import chosen
from blocks.interop.classifier import num_classes_of
from blocks.runs.checkpoint import classifier_of
from blocks.runs.data_of import classes_of, images_of
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.precision import cast_inputs, compute_dtype

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
NAMES = ("vit_{}", "deit_{}", "deit_{}_distilled", "convit_{}")
SIZES = [name.format(size) for name in NAMES for size in ("tiny", "small", "base")]
MODELS = {name: getattr(blocks, name) for name in SIZES} | {"vit_micro": partial(blocks.vit, **MICRO)}
MODELS |= {"convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3)}


@attrs.frozen
class Recipe:
    """Of the model, what is "" or 0 is as the weights' run had it, else as in USUAL."""

    images: str  # a folder of pictures at any depth, a pattern ('photos/**/*.jpg'), or one file
    weights: str = "runs/convit_supervised"  # a run's folder (its newest checkpoint) or best.pt in it; any other file
    which: Literal["params", "ema"] = "params"  # of those in the checkpoint
    out: str = ""  # a CSV file for all answers; "": they go to the terminal
    top: int = attrs.field(default=3, validator=count)  # likeliest classes to tell, of each picture
    classes: str = ""  # a text file, a class's name a line; "": those that the weights say, else numbers
    model: Literal[("", *MODELS)] = ""  # "": that of the weights' run, else deit_small
    trusted: tuple[str, ...] = ()  # packages or files (mine.py) of whose blocks a run's model may be made
    global_pool: Literal["", "token", "avg"] = ""  # the head's input: class token or mean; "": the run's, else token
    pos_embed: Literal["", "learn", "sincos"] = ""  # "": the run's, else learn
    img_size: int = 0  # pixels of a side, positions are resized to it; 0: the run's, else 224
    patch_size: int = 0  # pixels of a side; 0: the run's, else 16
    crop_pct: float = 0.0  # share of the resized image's side that is seen; 0: the run's, else 0.875
    interpolation: Literal["", "bicubic", "bilinear"] = ""  # of resizing to img_size / crop_pct; "": the run's
    batch_size: int = 256  # images at a time, per process
    precision: Literal["bfloat16", "float16", "float32"] = "float32"  # of the computation
    workers: int = 0  # loading processes for each process; 0: none, it loads by itself


USUAL = dict(model="deit_small", img_size=224, patch_size=16, global_pool="token", pos_embed="learn")


def names_of(r: Recipe, weights: Path, num_classes: int) -> list[str]:
    """The classes' names: those of the file that is given, those that the weights say, or numbers."""
    known = Path(r.classes).read_text("utf-8-sig").splitlines() if r.classes else classes_of(weights)
    names = list(known or map(str, range(num_classes)))
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} names of classes, and the model has {num_classes}; --classes names all of them")
    return names


@torch.no_grad()
def answers(model, params, data: PictureLoader, names: list[str], top: int, dtype):
    """[file, class, probability, class, ...] of each picture, as text, from the likeliest class on."""
    for batch in data:
        logits = model(params, cast_inputs(batch, dtype)["images"]).float()
        shares, classes = (found.tolist() for found in logits.softmax(-1).topk(min(top, logits.shape[1])))
        for place, *row in zip(batch["index"].tolist(), classes, shares, strict=True):
            cells = (cell for c, p in zip(*row, strict=True) for cell in (names[c], f"{p:.4f}"))
            yield [str(data.files[place]), *cells]


def main(r: Recipe) -> None:
    if r.out and Path(r.out).is_dir():
        raise ValueError(f"--out {r.out} is a folder; name a file in it")
    if r.out and not Path(r.out).parent.is_dir():
        raise ValueError(f"--out {r.out}: there is no folder {Path(r.out).parent}; make it first")
    with connect(data_workers=r.workers) as processes:
        files, weights, dtype = picture_files(r.images), classifier_of(r.weights), compute_dtype(r.precision)
        num_classes = num_classes_of(weights, r.which)
        names = names_of(r, weights, num_classes)
        model, size = chosen(MODELS, weights, r, num_classes=num_classes, usual=USUAL, head="keep")
        params, report = load_weights(model, weights, key=blocks.key(0, processes.device), which=r.which)
        processes.say(report, sys.stderr)  # beside the answers, which another program may read

        seen = seen_as(images_of(weights), img_size=size, crop_pct=r.crop_pct, interpolation=r.interpolation)
        own = files[processes.rank :: processes.world_size]
        data = PictureLoader(own, batch_size=r.batch_size, num_workers=r.workers, device=processes.device, **seen)
        found = answers(model, params if dtype is None else tree.cast(params, dtype), data, names, r.top, dtype)
        rows = sorted(row for part in processes.gathered(list(found)) for row in part)
        for file, why in (line for part in processes.gathered(data.skipped) for line in part.items()):
            processes.say(f"not read: {printable(file)}: {why}", sys.stderr)
        if not rows:
            raise ValueError(f"none of {len(files):,} pictures at {r.images} can be read")
        if processes.is_main and r.out:
            head = ["file", *(f"{name}_{k + 1}" for k in range(min(r.top, num_classes)) for name in ("class", "share"))]
            with open(r.out, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # any file's name
                csv.writer(file).writerows([head, *rows])
            processes.say(f"{len(rows):,} pictures' classes are in {r.out}", sys.stderr)
        for row in () if r.out else rows:
            processes.say(printable("  ".join(row)))


if __name__ == "__main__":
    main(cli(Recipe))
