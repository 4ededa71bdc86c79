r"""The accuracy of a checkpoint: this library's, timm's, DeiT's, ConViT's or VISSL's, at any image size.

    python recipes/convit_supervised.py && python recipes/evaluate.py --weights runs/convit_supervised
        the digits' small ConViT: 98.1 % top-1 in seconds; a run's folder says its model, its images and how it saw them

    torchrun --nproc-per-node 8 recipes/evaluate.py --model deit_small --weights deit_small_patch16_224-cd65a155.pth \
        --data 'shards/val-{000000..000006}.tar'
        ImageNet-1k: DeiT reports 79.9 %, and 72.2 % for deit_tiny, 81.8 % for deit_base; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, open_shards, train_and_val
from blocks.data.index.patterns import names_folder
from blocks.data.seen import seen_as
from blocks.interop.checkpoints import load_weights
from blocks.interop.chosen import chosen
from blocks.runs.checkpoint import classifier_of
from blocks.runs.data_of import classes_of, data_named_by, images_of
from blocks.runs.run import beside
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.evaluate import evaluate

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
NAMES = ("vit_{}", "deit_{}", "deit_{}_distilled", "convit_{}")
SIZES = [name.format(size) for name in NAMES for size in ("tiny", "small", "base")]
MODELS = {name: getattr(blocks, name) for name in SIZES} | {"vit_micro": partial(blocks.vit, **MICRO)}
MODELS |= {"convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3)}
MODELS |= {"vit_small_12_heads": partial(blocks.vit_small, num_heads=12)}  # MoCo v3's own ViT-S


@attrs.frozen
class Recipe:
    """What is "" or 0 is as the run of the weights had it, else as USUAL has it."""

    weights: str = "runs/convit_supervised"  # a run's folder (its newest checkpoint) or best.pt in it; any other file
    which: Literal["params", "ema", "teacher"] = "params"  # of those in the checkpoint
    model: Literal[("", *MODELS)] = ""  # "": that of the weights' run, else deit_small
    trusted: tuple[str, ...] = ()  # packages or files (mine.py) of whose blocks a run's model may be made
    global_pool: Literal["", "token", "avg"] = ""  # the head's input: class token or mean; "": the run's, else token
    pos_embed: Literal["", "learn", "sincos"] = ""  # sincos: MAE's files, learn: MoCo v3's; "": the run's, else learn
    data: str = ""  # shards: a pattern, a glob, a folder, "digits"; "": the run's validation shards, else digits
    split: str = "val"  # the part of a folder that is meant; "": all of it
    img_size: int = 0  # pixels of a side, positions are resized to it; 0: the run's, else 224
    patch_size: int = 0  # pixels of a side; 0: the run's, else 16
    crop_pct: float = 0.0  # share of the resized image's side that is seen; 0: the run's, else 0.875
    interpolation: Literal["", "bicubic", "bilinear"] = ""  # of resizing to img_size / crop_pct; "": the run's
    batch_size: int = 256  # images at a time, per process
    precision: Literal["bfloat16", "float16", "float32"] = "float32"  # of the computation
    workers: int = -1  # loading processes for each process; 0: none, -1: the run's, else 8
    max_unreadable: float = 0.01  # share of the images that may be unreadable; 0: not one


USUAL = dict(model="deit_small", img_size=224, patch_size=16, global_pool="token", pos_embed="learn")


def shards_of(data: str, split: str, run):
    """Those that are named, else those that the run was validated on."""
    if data and data != "digits":
        return open_shards(data, (split or None) if names_folder(data) else None)
    named = data_named_by(run) if run and not data else {"data": "digits"}
    return train_and_val(named["data"], named.get("val", ""))[1]


def main(r: Recipe) -> None:
    weights = classifier_of(r.weights)
    run, known = beside(weights), classes_of(weights)
    settings = run.settings if run else {}
    workers = settings.get("workers", 8) if r.workers < 0 else r.workers
    with connect(data_workers=workers) as processes:
        shards = shards_of(r.data, r.split, run)
        if known:
            shards = shards.in_order_of(known)
        classes = shards.num_classes
        model, size = chosen(MODELS, weights, r, num_classes=classes, usual=USUAL, head="keep")
        key = blocks.key(0, processes.device)  # nothing is drawn from it: it says where the params shall be
        params, report = load_weights(model, weights, key=key, which=r.which)
        data = EvalLoader(
            shards, batch_size=r.batch_size, num_classes=classes, num_workers=workers, max_unreadable=r.max_unreadable,
            rank=processes.rank, world_size=processes.world_size, device=processes.device,
            **seen_as(images_of(weights), img_size=size, crop_pct=r.crop_pct, interpolation=r.interpolation),
        )  # fmt: skip
        found = evaluate(model, params, data, processes, precision=r.precision)
        if processes.is_main:
            print(report)
            top5 = f"  top-5 {found['top5']:.2%}" if "top5" in found else ""
            data_name = r.data or settings.get("val") or settings.get("data", "digits")
            print(f"top-1 {found['top1']:.2%}{top5}  loss {found['loss']:.4f}  images {found['images']} of {data_name}")


if __name__ == "__main__":
    main(cli(Recipe))
