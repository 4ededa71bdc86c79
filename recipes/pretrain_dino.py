r"""DINO: crops of an image predict what a slow copy of the model, centred and sharpened, says of its large crops. Caron
et al. 2021, "Emerging properties in self-supervised vision transformers", with its code's values for ViT-S; its code
decays the class token and the positions too, which are spared here.

    torchrun recipes/pretrain_dino.py
        a small ViT on scikit-learn's handwritten digits: the teacher's k-NN is 87 % (k = 20; random weights 51 %), a
        ConViT's, by --trunk convit_micro, 93 % (61 %). A faster teacher, --momentum 0.97, made all alike: 50 %

    torchrun --nproc-per-node 8 recipes/pretrain_dino.py --trunk vit_small \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: its code reports 73.3 % by k-NN and 76.1 % by a linear probe, with a last layer that is not
        normalised; the paper 74.5 and 77.0 %: 800 epochs, ten small crops of smaller parts; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, TrainLoader, knn_shards, pretraining_shards
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import dino_views
from blocks.layers.published_heads import dino_head
from blocks.objectives.dino import DINO
from blocks.objectives.monitored import monitored
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipEach
from blocks.optim.schedule import cosine, linear, scaled_lr, warmup_cosine
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
    drop_path: float = 0.1  # probability of skipping the last layer, from 0 at the first; 0: off
    hidden: int = 2048  # width of the head's hidden layers
    bottleneck: int = 256  # width before the last layer
    head_norm: Literal["", "batch"] = ""  # of the head's hidden layers; "": none
    logits: int = 65_536  # outputs of the head: how many codes there may be
    freeze_epochs: float = 1.0  # in which the last layer stays as drawn; 0: none
    momentum: float = 0.996  # of the teacher: what stays of it in a step; grows to 1 by a cosine
    teacher_temp: tuple[float, float] = (0.04, 0.07)  # the teacher's temperature at the start, and after temp_epochs
    temp_epochs: int = 30  # in which the teacher's temperature rises
    epochs: int = 300  # passes over the training images
    batch_size: int = 1024  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 5e-4  # peak rate per 256 images of the batch
    min_lr: float = 1e-6  # the rate at the end of the cosine, whatever the batch, but at most the peak
    warmup_epochs: float = 10.0  # of a linear rise from 0; 0: none
    weight_decay: tuple[float, float] = (0.04, 0.4)  # of weights alone, at the start and, by a cosine, at the end
    clip_norm: float = 3.0  # largest norm of each parameter's gradient; 0: any
    local_size: int = 96  # pixels of a side of the small crops
    num_local: int = 8  # small crops of an image, beside two large ones; 0: none
    scale: tuple[float, float] = (0.4, 1.0)  # least and largest area of the large crops, shares of the image
    local_scale: tuple[float, float] = (0.05, 0.4)  # of the small crops
    flip: float = 0.5  # probability of mirroring an image
    sigma: tuple[float, float] = (0.1, 2.0)  # least and largest width of the blur, pixels
    augment: Literal["auto", "workers", "device"] = "auto"  # where views are made; auto: on a GPU if there is one
    knn_share: float = 0.1  # share of the training images that vote in evaluation by k-NN
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/pretrain_dino"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    trunk="vit_micro", img_size=16, patch_size=4, drop_path=0.0, hidden=256, bottleneck=64, logits=256, momentum=0.99,
    head_norm="batch", teacher_temp=(0.02, 0.02), temp_epochs=1, epochs=50, batch_size=64, lr=4e-3, warmup_epochs=5.0,
    weight_decay=(0.04, 0.04), local_size=8, num_local=2, scale=(0.6, 1.0), local_scale=(0.3, 0.6), sigma=(0.1, 0.5),
    flip=0.0, knn_share=1.0, augment="device", precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        where = r.loading(processes)
        knobs = dict(scale=r.scale, local_scale=r.local_scale, flip=r.flip, sigma=r.sigma)
        crops = MultiCrop(dino_views(r.img_size, r.local_size, r.num_local, **knobs), home=processes.home(r.augment))
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crops, **r.order, **where)
        seen = dict(batch_size=256, transform=EvalTransform(r.img_size), **where)
        knn_data = [EvalLoader(shards, **seen) for shards in knn_shards(train_shards, val_shards, r.knn_share)]
        steps = train_data.steps_per_epoch

        body = TRUNKS[r.trunk](num_classes=0, img_size=r.img_size, patch_size=r.patch_size, drop_path_rate=r.drop_path)
        widths = dict(hidden_features=r.hidden, bottleneck_features=r.bottleneck)
        head = dino_head(body.trunk.embed_dim, r.logits, norm=r.head_norm or None, **widths)
        model, momentum = attrs.evolve(body, head=head), cosine(r.momentum, 1.0, r.epochs * steps)
        dino = DINO(model, momentum=momentum, teacher_temp=linear(*r.teacher_temp, r.temp_epochs * steps))

        peak, clip = scaled_lr(r.lr, r.batch_size, per=256), ClipEach(r.clip_norm) if r.clip_norm else None
        end = min(r.min_lr, peak)  # a small batch's peak may lie below
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, end=end)
        decay, wake = cosine(*r.weight_decay, r.epochs * steps), {"head.last_layer.*": round(r.freeze_epochs * steps)}
        run(
            monitored(dino, train_shards.num_classes), adamw(schedule, weight_decay=decay, wake=wake), train_data,
            evaluate=knn_monitor(model, knn_data, processes), epochs=r.epochs, options=r, processes=processes,
            clip=clip, accumulate=r.accumulate, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
