r"""The accuracy of a checkpoint: this library's, timm's, DeiT's, ConViT's or VISSL's, at any image size.

    python recipes/convit_supervised.py && python recipes/evaluate.py
        the digits' small ConViT: 98.1 % top-1 in seconds

    torchrun --nproc-per-node 8 recipes/evaluate.py --model deit_small --weights deit_small_patch16_224-cd65a155.pth \
        --data 'shards/val-{000000..000006}.tar'
        ImageNet-1k: DeiT reports 79.9 %, and 72.2 % for deit_tiny, 81.8 % for deit_base; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, digits, open_shards
from blocks.interop.checkpoints import load_weights
from blocks.runs.checkpoint import file_of
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.evaluate import evaluate

vit_micro = partial(blocks.vit, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
convit_micro = partial(blocks.convit, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0, local_up_to_layer=3)
NAMES = ("vit_{}", "deit_{}", "deit_{}_distilled", "convit_{}")
SIZES = [name.format(size) for name in NAMES for size in ("tiny", "small", "base")]
MODELS = {"vit_micro": vit_micro, "convit_micro": convit_micro, **{name: getattr(blocks, name) for name in SIZES}}


@attrs.frozen
class Recipe:
    """DIGITS replaces some when no other data is named."""

    weights: str = ""  # a file, or a run's folder: its newest checkpoint
    which: Literal["params", "ema", "teacher"] = "params"  # of those in the checkpoint
    model: Literal[tuple(MODELS)] = "deit_small"
    global_pool: Literal["token", "avg"] = "token"  # the head's input: class token, or mean over patches
    pos_embed: Literal["learn", "sincos"] = "learn"  # sincos: after MoCo v3 and MAE
    data: str = "digits"  # shards to evaluate on: a brace pattern, a glob, a folder, or "digits"
    img_size: int = 224  # pixels; position embeddings are resized to it
    patch_size: int = 16  # pixels
    crop_pct: float = 0.875  # of the resized image that is seen
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    batch_size: int = 256  # per process
    precision: Literal["bfloat16", "float16", "float32"] = "float32"
    workers: int = 8  # per process


DIGITS = dict(
    weights="runs/convit_supervised", model="convit_micro", img_size=16, patch_size=4, crop_pct=1.0, workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        shards = open_shards(digits()[1] if r.data == "digits" else r.data)
        classes = shards.num_classes
        knobs = dict(img_size=r.img_size, patch_size=r.patch_size, global_pool=r.global_pool, pos_embed=r.pos_embed)
        model = MODELS[r.model](num_classes=classes, **knobs)
        key = blocks.key(0, processes.device)  # nothing is drawn from it: it says where the params shall be
        params, report = load_weights(model, file_of(r.weights), key=key, which=r.which)
        data = EvalLoader(
            shards, batch_size=r.batch_size, num_classes=classes, num_workers=r.workers,
            transform=EvalTransform(r.img_size, r.crop_pct, r.interpolation),
            rank=processes.rank, world_size=processes.world_size, device=processes.device,
        )  # fmt: skip
        found = evaluate(model, params, data, processes, precision=r.precision)
        if processes.is_main:
            print(report)
            top5 = f"  top-5 {found['top5']:.2%}" if "top5" in found else ""
            print(f"top-1 {found['top1']:.2%}{top5}  loss {found['loss']:.4f}  images {found['images']}")


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
