r"""VICReg: two views' embeddings alike, their dimensions spread and uncorrelated. Bardes, Ponce and LeCun 2022,
"VICReg: variance-invariance-covariance regularization": expander, loss and views, for a ResNet. Rates for transformers:
those of Chen, Xie and He 2021 (MoCo v3).

    torchrun recipes/pretrain_vicreg.py
        a small ConViT on scikit-learn's handwritten digits: k-NN of about 90 % (k = 20; random weights 61 %)

    torchrun --nproc-per-node 8 recipes/pretrain_vicreg.py --trunk vit_small \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: no result with these trunks is published; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, TrainLoader, knn_shards, pretraining_shards
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import vicreg_views
from blocks.layers.published_heads import vicreg_expander
from blocks.objectives.monitored import monitored
from blocks.objectives.vicreg import VICReg
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
    trunk: Literal[tuple(TRUNKS)] = "vit_small"  # the model below the head; micro: for thumbnails
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    drop_path: float = 0.0  # probability of skipping the last layer, from 0 at the first; 0: off
    dim: int = 8192  # width of all three layers of the expander
    invariance: float = 25.0  # weight of: the views' embeddings are alike
    variance: float = 25.0  # weight of: each dimension varies
    covariance: float = 1.0  # weight of: no two vary together
    epochs: int = 300  # passes over the training images
    batch_size: int = 2048  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 1.5e-4  # peak rate per 256 images of the batch
    warmup_epochs: float = 40.0  # of a linear rise from 0; 0: none
    weight_decay: float = 0.1  # of weights, not of biases, norms, tokens and positions; 0: off
    clip_norm: float = 0.0  # largest norm of the gradient; 0: any
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    sigma: tuple[float, float] = (0.1, 2.0)  # least and largest width of the blur, pixels
    augment: Literal["auto", "workers", "device"] = "auto"  # where views are made; auto: on a GPU if there is one
    knn_share: float = 0.1  # share of the training images that vote in evaluation by k-NN
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/pretrain_vicreg"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    trunk="convit_micro", img_size=16, patch_size=4, dim=256, epochs=20, batch_size=128, lr=3e-3, warmup_epochs=2.0,
    weight_decay=0.05, scale=(0.4, 1.0), sigma=(0.1, 0.5), flip=0.0, knn_share=1.0, augment="device",
    precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        where = r.loading(processes)
        crops = MultiCrop(vicreg_views(r.img_size, r.scale, flip=r.flip, sigma=r.sigma), home=processes.home(r.augment))
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crops, **r.order, **where)
        seen = dict(batch_size=256, transform=EvalTransform(r.img_size), **where)
        knn_data = [EvalLoader(shards, **seen) for shards in knn_shards(train_shards, val_shards, r.knn_share)]
        steps = train_data.steps_per_epoch

        body = TRUNKS[r.trunk](num_classes=0, img_size=r.img_size, patch_size=r.patch_size, drop_path_rate=r.drop_path)
        model = attrs.evolve(body, head=vicreg_expander(body.trunk.embed_dim, r.dim))
        vicreg = VICReg(model, r.invariance, r.variance, r.covariance)

        peak = scaled_lr(r.lr, r.batch_size, per=256)
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps)
        run(
            monitored(vicreg, train_shards.num_classes), adamw(schedule, weight_decay=r.weight_decay), train_data,
            evaluate=knn_monitor(model, knn_data, processes), epochs=r.epochs, options=r, processes=processes,
            clip_norm=r.clip_norm or None, accumulate=r.accumulate, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
