r"""iBOT: DINO, and for masked patches of the large crops what the slow copy says of them unmasked. Zhou et al. 2022,
"iBOT: image BERT pre-training with online tokenizer", with its code's values for ViT-S; its code decays the class
token, the mask token and the positions too, which are spared here.

    torchrun recipes/pretrain_ibot.py
        a small ViT on scikit-learn's handwritten digits: the teacher's k-NN is 80 % (k = 20; random weights 51 %), a
        ConViT's, by --trunk convit_micro, 87 % (61 %)

    torchrun --nproc-per-node 8 recipes/pretrain_ibot.py --trunk vit_small \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: the paper reports 75.2 % by k-NN and 77.9 % by a linear probe (ViT-S, 800 epochs); not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, TrainLoader, knn_shards, pretraining_shards
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import ibot_views
from blocks.layers.published_heads import dino_head
from blocks.objectives.ibot import IBOT
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
    logits: int = 8192  # outputs of the head, for class token and patches alike
    freeze_epochs: float = 1.0  # in which the last layer stays as drawn; 0: none
    centring: Literal["mean", "sinkhorn"] = "mean"  # what keeps the teacher from saying the same of all
    momentum: float = 0.996  # of the teacher: what stays of it in a step; grows to 1 by a cosine
    teacher_temp: tuple[float, float] = (0.04, 0.07)  # the teacher's temperature at the start, and after temp_epochs
    temp_epochs: int = 30  # in which the teacher's temperature rises
    epochs: int = 800  # passes over the training images
    batch_size: int = 1024  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 5e-4  # peak rate per 256 images of the batch
    min_lr: float = 1e-6  # the rate at the end of the cosine, whatever the batch, but at most the peak
    warmup_epochs: float = 10.0  # of a linear rise from 0; 0: none
    weight_decay: tuple[float, float] = (0.04, 0.4)  # of weights alone, at the start and, by a cosine, at the end
    clip_norm: float = 3.0  # largest norm of each parameter's gradient; 0: any
    local_size: int = 96  # pixels of a side of the small crops
    num_local: int = 10  # small crops of an image, beside two large ones; 0: none
    scale: tuple[float, float] = (0.25, 1.0)  # least and largest area of the large crops, shares of the image
    local_scale: tuple[float, float] = (0.05, 0.25)  # of the small crops
    flip: float = 0.5  # probability of mirroring an image
    sigma: tuple[float, float] = (0.1, 2.0)  # least and largest width of the blur, pixels
    augment: Literal["auto", "workers", "device"] = "auto"  # where views are made; auto: on a GPU if there is one
    knn_share: float = 0.1  # share of the training images that vote in evaluation by k-NN
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/pretrain_ibot"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    trunk="vit_micro", img_size=16, patch_size=4, drop_path=0.0, hidden=256, bottleneck=64, logits=256, momentum=0.9,
    centring="sinkhorn", teacher_temp=(0.02, 0.02), temp_epochs=1, epochs=50, batch_size=64, lr=4e-3, warmup_epochs=2.0,
    weight_decay=(0.04, 0.04), local_size=8, num_local=2, scale=(0.6, 1.0), local_scale=(0.3, 0.6), sigma=(0.1, 0.5),
    flip=0.0, knn_share=1.0, augment="device", precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        where = r.loading(processes)
        knobs = dict(scale=r.scale, local_scale=r.local_scale, flip=r.flip, sigma=r.sigma)
        crops = MultiCrop(ibot_views(r.img_size, r.local_size, r.num_local, **knobs), home=processes.home(r.augment))
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crops, **r.order, **where)
        seen = dict(batch_size=256, transform=EvalTransform(r.img_size), **where)
        knn_data = [EvalLoader(shards, **seen) for shards in knn_shards(train_shards, val_shards, r.knn_share)]
        steps = train_data.steps_per_epoch

        body = TRUNKS[r.trunk](num_classes=0, img_size=r.img_size, patch_size=r.patch_size, drop_path_rate=r.drop_path)
        head = dino_head(body.trunk.embed_dim, r.logits, hidden_features=r.hidden, bottleneck_features=r.bottleneck)
        model, momentum = attrs.evolve(body, head=head), cosine(r.momentum, 1.0, r.epochs * steps)
        temperature = linear(*r.teacher_temp, r.temp_epochs * steps)
        ibot = IBOT(model, momentum=momentum, teacher_temp=temperature, patch_temp=temperature, centring=r.centring)

        peak, clip = scaled_lr(r.lr, r.batch_size, per=256), ClipEach(r.clip_norm) if r.clip_norm else None
        end = min(r.min_lr, peak)  # a small batch's peak may lie below
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, end=end)
        decay, wake = cosine(*r.weight_decay, r.epochs * steps), {"head.last_layer.*": round(r.freeze_epochs * steps)}
        run(
            monitored(ibot, train_shards.num_classes), adamw(schedule, weight_decay=decay, wake=wake), train_data,
            evaluate=knn_monitor(model, knn_data, processes), epochs=r.epochs, options=r, processes=processes,
            clip=clip, accumulate=r.accumulate, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
