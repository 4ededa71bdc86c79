r"""How good are a trained trunk's features? A linear classifier on them, the trunk frozen, crops and flips alone
(as Chen et al. 2021, "An empirical study of training self-supervised vision transformers", appendix).

    python recipes/convit_supervised.py && torchrun recipes/linear_probe.py
        the digits' small ConViT: 98.9 % top-1 in half a minute on 2 CPU cores

    torchrun --nproc-per-node 8 recipes/linear_probe.py --weights vit-b-300ep.pth.tar --model vit_base \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: MoCo v3 reports 76.7 % for ViT-B; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, TrainLoader, TrainTransform, train_and_val
from blocks.interop.checkpoints import load_weights
from blocks.objectives.supervised import Supervised
from blocks.optim.schedule import cosine, scaled_lr
from blocks.optim.sgd import sgd
from blocks.train.checkpoint import latest
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run

convit_micro = partial(blocks.convit, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0, local_up_to_layer=3)
SIZES = [f"{name}_{size}" for name in ("vit", "convit") for size in ("tiny", "small", "base")]
MODELS = {"convit_micro": convit_micro, **{name: getattr(blocks, name) for name in SIZES}}
HEAD_ALONE = ("*", "!head.*")  # frozen is all but the head


@attrs.frozen
class Recipe:
    """The usual values; DIGITS replaces some when no other data is named."""

    weights: str = ""  # a checkpoint of this library's, timm's, DeiT's, ConViT's or VISSL's; or a run's folder
    which: Literal["params", "ema", "teacher"] = "params"  # of those in the checkpoint
    model: Literal[tuple(MODELS)] = "vit_base"
    global_pool: Literal["token", "avg"] = "token"  # the feature: the class token, or the mean over patches
    data: str = "digits"  # training shards: a brace pattern, a glob, a folder, or "digits"
    val: str = ""  # validation shards, named likewise
    img_size: int = 224  # pixels
    patch_size: int = 16  # pixels
    epochs: int = 90
    batch_size: int = 1024  # global: over all processes
    lr: float = 0.1  # per 256 images; the best one depends on the scale of the features
    scale: tuple[float, float] = (0.08, 1.0)  # area of the random crop
    flip: float = 0.5  # probability
    crop_pct: float = 0.875  # of the resized image that evaluation sees
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    workers: int = 8  # per process
    seed: int = 0
    out: str = "runs/linear_probe"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    weights="runs/convit_supervised", model="convit_micro", img_size=16, patch_size=4, epochs=10, batch_size=64,
    lr=1.0, scale=(0.7, 1.0), flip=0.0, crop_pct=1.0, precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = train_and_val(r.data, r.val)
        classes = train_shards.num_classes

        knobs = dict(img_size=r.img_size, patch_size=r.patch_size, global_pool=r.global_pool)
        model = MODELS[r.model](num_classes=classes, **knobs)
        key = blocks.key(r.seed, processes.device)
        params, report = load_weights(model, latest(r.weights) or r.weights, key=key, which=r.which, head="new")
        if processes.is_main:
            print(report)

        where = dict(rank=processes.rank, world_size=processes.world_size, device=processes.device)
        train_data = TrainLoader(
            train_shards, batch_size=r.batch_size, num_classes=classes, seed=r.seed, num_workers=r.workers,
            transform=TrainTransform(r.img_size, scale=r.scale, flip=r.flip), **where,
        )  # fmt: skip
        val_data = EvalLoader(
            val_shards, batch_size=256, num_classes=classes, num_workers=r.workers,
            transform=EvalTransform(r.img_size, r.crop_pct), **where,
        )  # fmt: skip

        schedule = cosine(scaled_lr(r.lr, r.batch_size, per=256), 0.0, r.epochs * train_data.steps_per_epoch)
        run(
            Supervised(model), sgd(schedule, momentum=0.9), train_data, val_data, params=params, frozen=HEAD_ALONE,
            epochs=r.epochs, out=r.out, processes=processes, seed=r.seed, precision=r.precision,
            settings=attrs.asdict(r),
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
