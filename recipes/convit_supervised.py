r"""ConViT trained with labels: d'Ascoli et al. 2021, "ConViT: improving vision transformers with soft
convolutional inductive biases", section 3, with DeiT's schedule and augmentation (Touvron et al. 2021, table 9).

    torchrun recipes/convit_supervised.py
        a small ConViT on scikit-learn's handwritten digits: 98.1 % top-1 in about a minute on 2 CPU cores

    torchrun --nproc-per-node 8 recipes/convit_supervised.py \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar' --size base
        ImageNet-1k: the paper reports 73.1 % (tiny), 81.3 % (small) and 82.4 % (base); not run here.
        It trains the plus sizes with --batch-size 512 --lr 4e-4
"""

from typing import Literal

import attrs

from blocks import convit, convit_base, convit_base_plus, convit_small, convit_small_plus, convit_tiny, convit_tiny_plus
from blocks.data import EvalLoader, EvalTransform, Mixing, RandomErasing, TrainLoader, TrainTransform
from blocks.data.splits import train_and_val
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions


def convit_micro(**knobs):
    """A ConViT for thumbnails: 4 heads of 16, 4 layers."""
    return convit(**{"embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0} | knobs)


SIZES = {
    "micro": convit_micro, "tiny": convit_tiny, "small": convit_small, "base": convit_base,
    "tiny_plus": convit_tiny_plus, "small_plus": convit_small_plus, "base_plus": convit_base_plus,
}  # fmt: skip


@attrs.frozen
class Recipe(RunOptions):
    """The published values; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards: a brace pattern, a glob, a folder, or "digits"
    val: str = ""  # validation shards, named likewise; none needed where data is a folder with both
    size: Literal["micro", "tiny", "small", "base", "tiny_plus", "small_plus", "base_plus"] = "small"  # plus: 64 a head
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    local_layers: int = 10  # layers of GPSA below those of plain attention; 0: none
    drop_path: float = 0.1  # probability of skipping the last layer, from 0 at the first; 0: off
    epochs: int = 300  # passes over the training images
    batch_size: int = 1024  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 5e-4  # peak rate per 512 images of the batch
    min_lr: float = 1e-5  # the rate at the end of the cosine, whatever the batch, but at most the peak
    warmup_epochs: float = 5.0  # of a linear rise from 1e-6; 0: none
    weight_decay: float = 0.05  # of weights, not of biases, norms, tokens and positions; 0: off
    smoothing: float = 0.1  # of the labels: the share given to all classes alike; 0: off
    clip_norm: float = 0.0  # largest norm of the gradient; 0: any
    ema_decay: float = 0.99996  # of the average of the params, a step; 0: no average
    repeats: int = 3  # augmented copies of an image in an epoch, of 1 / repeats of the images; 1: off
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    policy: str = "rand-m9-mstd0.5-inc1"  # RandAugment, in timm's words; "": none
    augment: Literal["workers", "device"] = "workers"  # where crops and policy are computed; device: batch-wise
    erase: float = 0.25  # probability of random erasing; 0: off
    mixup: float = 0.8  # alpha of MixUp's shares; 0: off
    cutmix: float = 1.0  # alpha of CutMix's shares; 0: off
    crop_pct: float = 0.875  # share of the resized image's side that evaluation sees
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/convit_supervised"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    size="micro", img_size=16, patch_size=4, local_layers=3, drop_path=0.05, epochs=40, batch_size=64, lr=16e-3,
    warmup_epochs=3.0, clip_norm=1.0, ema_decay=0.0, repeats=1, scale=(0.7, 1.0), flip=0.0, policy="", erase=0.0,
    mixup=0.0, cutmix=0.0, crop_pct=1.0, precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = train_and_val(r.data, r.val)
        num_classes = train_shards.num_classes

        model = SIZES[r.size](
            num_classes=num_classes, img_size=r.img_size, patch_size=r.patch_size,
            local_up_to_layer=r.local_layers, drop_path_rate=r.drop_path,
        )  # fmt: skip
        objective = Supervised(model, label_smoothing=r.smoothing)

        where = r.loading(processes)
        transform = TrainTransform(r.img_size, scale=r.scale, flip=r.flip, policy=r.policy, home=r.augment)
        mixes = r.mixup or r.cutmix
        train_data = TrainLoader(
            train_shards, batch_size=r.batch_size, num_classes=num_classes, transform=transform,
            repeats=r.repeats, erase=RandomErasing(r.erase) if r.erase else None,
            mix=Mixing(num_classes=num_classes, mixup_alpha=r.mixup, cutmix_alpha=r.cutmix) if mixes else None,
            **r.order, **where,
        )  # fmt: skip
        val_data = EvalLoader(
            val_shards, batch_size=256, num_classes=num_classes, transform=EvalTransform(r.img_size, r.crop_pct),
            **where,
        )  # fmt: skip

        steps, peak = train_data.steps_per_epoch, scaled_lr(r.lr, r.batch_size, per=512)
        start, end = min(1e-6, peak), min(r.min_lr, peak)  # a small batch's peak may lie below
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, start=start, end=end)
        run(
            objective, adamw(schedule, weight_decay=r.weight_decay), train_data, val_data, epochs=r.epochs, options=r,
            processes=processes, clip_norm=r.clip_norm or None, accumulate=r.accumulate, ema_decay=r.ema_decay or None,
            precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
