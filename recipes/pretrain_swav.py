r"""SwAV: crops of an image predict to which prototypes the others are assigned. Caron et al. 2020, "Unsupervised
learning of visual features by contrasting cluster assignments": crops, prototypes and queue, as for batches of 256.
Rates for transformers: VISSL's swav/deit_b_2nodes and convit_s_2nodes, which mix views too: --mix.

    torchrun recipes/pretrain_swav.py
        a small ConViT on scikit-learn's handwritten digits: k-NN of 67 to 90 % by --seed (k = 20; random
        weights 61 %), and a ViT's, by --trunk vit_micro, about 89 % (51 %)

    torchrun --nproc-per-node 8 recipes/pretrain_swav.py --trunk convit_small \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: not published with these rates; MoCo v3's paper has 67.1 % (ViT-S) for its own; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, TrainLoader, knn_shards, pretraining_shards
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import swav_views
from blocks.layers.published_heads import swav_head
from blocks.layers.weight_norm import Prototypes
from blocks.objectives.monitored import monitored
from blocks.objectives.swav import SwAV
from blocks.optim.adamw import adamw
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.probe.knn_monitor import knn_monitor
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = [f"{family}_{size}" for family in ("vit", "deit", "convit") for size in ("tiny", "small", "base")]
TRUNKS = {
    "vit_micro": partial(blocks.vit, **MICRO), "convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3),
    **{name: getattr(blocks, name) for name in SIZES},
}  # fmt: skip


@attrs.frozen
class Recipe(RunOptions):
    """The published values; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards, with labels or without: a pattern, a folder, or "digits"
    val: str = ""  # labelled shards for k-NN; none needed where data is a folder with both, or has no labels
    trunk: Literal[tuple(TRUNKS)] = "convit_small"  # the model below the head; micro: for thumbnails
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    drop_path: float = 0.1  # probability of skipping the last layer, from 0 at the first; 0: off
    hidden: int = 2048  # width of the head's hidden layer
    dim: int = 128  # width of the embeddings
    prototypes: tuple[int, ...] = (3000,)  # how many, of each head; several numbers: several heads
    freeze_epochs: float = 1.0  # in which the prototypes stay as drawn; 0: none
    queue: int = 3840  # embeddings of earlier crops that take part in the assignment; 0: none
    queue_from: float = 15.0  # epochs until the queue takes part
    epsilon: float = 0.05  # of the assignment: less is harder
    epochs: int = 300  # passes over the training images
    batch_size: int = 256  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 5e-4  # peak rate per 512 images of the batch
    warmup_epochs: float = 15.0  # of a linear rise from half the peak; 0: none
    weight_decay: float = 0.05  # of weights, not of biases, norms, tokens and positions; 0: off
    local_size: int = 96  # pixels of a side of the small crops
    num_local: int = 6  # small crops of an image, beside two large ones; 0: none
    scale: tuple[float, float] = (0.14, 1.0)  # least and largest area of the large crops, shares of the image
    local_scale: tuple[float, float] = (0.05, 0.14)  # of the small crops
    flip: float = 0.5  # probability of mirroring an image
    sigma: tuple[float, float] = (0.1, 2.0)  # least and largest width of the blur, pixels
    mix: bool = False  # MixUp and CutMix of alpha 1, view by view
    augment: Literal["auto", "workers", "device"] = "auto"  # where views are made; auto: on a GPU if there is one
    knn_share: float = 0.1  # share of the training images that vote in evaluation by k-NN
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/pretrain_swav"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    trunk="convit_micro", img_size=16, patch_size=4, drop_path=0.0, hidden=256, dim=64, prototypes=(32,),
    freeze_epochs=10.0, queue=0, epsilon=0.01, epochs=40, batch_size=128, lr=6e-3, warmup_epochs=2.0, local_size=8,
    num_local=2, scale=(0.6, 1.0), local_scale=(0.3, 0.6), sigma=(0.1, 0.5), flip=0.0, knn_share=1.0,
    augment="device", precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        where = r.loading(processes)
        knobs = dict(scale=r.scale, local_scale=r.local_scale, flip=r.flip, sigma=r.sigma)
        crops = MultiCrop(swav_views(r.img_size, r.local_size, r.num_local, **knobs), home=processes.home(r.augment))
        mix = Mixing(train_shards.num_classes, 1.0, 1.0) if r.mix else None
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crops, mix=mix, **r.order, **where)
        seen = dict(batch_size=256, transform=EvalTransform(r.img_size), **where)
        knn_data = [EvalLoader(shards, **seen) for shards in knn_shards(train_shards, val_shards, r.knn_share)]
        steps = train_data.steps_per_epoch

        body = TRUNKS[r.trunk](num_classes=0, img_size=r.img_size, patch_size=r.patch_size, drop_path_rate=r.drop_path)
        model = attrs.evolve(body, head=swav_head(body.trunk.embed_dim, r.hidden, r.dim))
        prototypes = tuple(Prototypes(r.dim, count) for count in r.prototypes)
        swav = SwAV(model, prototypes, epsilon=r.epsilon, queue_length=r.queue, queue_start=round(r.queue_from * steps))

        peak = scaled_lr(r.lr, r.batch_size, per=512)
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, start=peak / 2, end=peak / 500)
        wake = {"prototypes.*": round(r.freeze_epochs * steps)}
        run(
            monitored(swav, train_shards.num_classes), adamw(schedule, weight_decay=r.weight_decay, wake=wake),
            train_data, evaluate=knn_monitor(model, knn_data, processes), epochs=r.epochs, options=r,
            processes=processes, accumulate=r.accumulate, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
