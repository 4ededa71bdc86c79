r"""ViT trained with labels: Dosovitskiy et al. 2021, "An image is worth 16x16 words", table 3 (ImageNet from scratch).

    torchrun recipes/vit_supervised.py
        a small ViT on scikit-learn's handwritten digits: 98.1 % top-1 in about a minute on 2 CPU cores

    torchrun --nproc-per-node 8 recipes/vit_supervised.py \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar' --size base
        ImageNet-1k: the paper reports 77.9 % for ViT-B/16 at 384 px; not run here
"""

from typing import Literal

import attrs

from blocks import TanhMlpHead, vit, vit_base, vit_huge, vit_large, vit_small, vit_tiny
from blocks.data import EvalLoader, EvalTransform, TrainLoader, TrainTransform, train_and_val
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions


def vit_micro(**knobs):
    """A ViT for thumbnails: 4 heads of 16, 4 layers."""
    return vit(**{"embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0} | knobs)


SIZES = {
    "micro": vit_micro, "tiny": vit_tiny, "small": vit_small, "base": vit_base, "large": vit_large, "huge": vit_huge,
}  # fmt: skip


@attrs.frozen
class Recipe(RunOptions):
    """The published values; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards: a brace pattern, a glob, a folder, or "digits"
    val: str = ""  # validation shards, named likewise; none needed where data is a folder with both
    size: Literal["micro", "tiny", "small", "base", "large", "huge"] = "base"  # of the model; micro is for thumbnails
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side, divides img_size; the paper's ViT-H has 14
    dropout: float = 0.1  # rate of embedded tokens, attention's output and the MLP; 0: off
    epochs: int = 300  # passes over the training images
    batch_size: int = 4096  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 3e-3  # peak rate per 4096 images of the batch
    min_lr: float = 0.0  # the rate at the end of the cosine, whatever the batch, but at most the peak
    warmup_epochs: float = 32.0  # of a linear rise from 0; 32 are 10,000 steps of ImageNet; 0: none
    weight_decay: float = 0.3  # of weights, not of biases, norms, tokens and positions; 0: off
    smoothing: float = 0.0  # of the labels: the share given to all classes alike; 0: off
    clip_norm: float = 1.0  # largest norm of the gradient; 0: any
    ema_decay: float = 0.0  # of the average of the params, a step; 0: no average
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    crop_pct: float = 0.875  # share of the resized image's side that evaluation sees
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/vit_supervised"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    size="micro", img_size=16, patch_size=4, dropout=0.0, epochs=40, batch_size=64, lr=0.13, warmup_epochs=3.0,
    weight_decay=0.05, smoothing=0.1, scale=(0.7, 1.0), flip=0.0, crop_pct=1.0, precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = train_and_val(r.data, r.val)
        num_classes = train_shards.num_classes

        knobs = dict(img_size=r.img_size, patch_size=r.patch_size, pos_drop_rate=r.dropout, proj_drop_rate=r.dropout)
        trunk = SIZES[r.size](num_classes=0, **knobs).trunk
        head = TanhMlpHead(trunk.embed_dim, trunk.embed_dim, num_classes)  # in pre-training; fine-tuning has one layer
        objective = Supervised(SIZES[r.size](head=head, **knobs), label_smoothing=r.smoothing)

        where = r.loading(processes)
        train_data = TrainLoader(
            train_shards, batch_size=r.batch_size, num_classes=num_classes,
            transform=TrainTransform(r.img_size, scale=r.scale, flip=r.flip), **r.order, **where,
        )  # fmt: skip
        val_data = EvalLoader(
            val_shards, batch_size=256, num_classes=num_classes, transform=EvalTransform(r.img_size, r.crop_pct),
            **where,
        )  # fmt: skip

        steps, peak = train_data.steps_per_epoch, scaled_lr(r.lr, r.batch_size, per=4096)
        end = min(r.min_lr, peak)  # a small batch's peak may lie below
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, end=end)
        run(
            objective, adamw(schedule, weight_decay=r.weight_decay), train_data, val_data, epochs=r.epochs, options=r,
            processes=processes, clip_norm=r.clip_norm or None, accumulate=r.accumulate, ema_decay=r.ema_decay or None,
            precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
