r"""DINOv2: iBOT, and features kept apart (KoLeo). Oquab et al. 2024, "DINOv2: learning robust visual features without
supervision", with its code's values for ViT-L on ImageNet-1k (for 22k --centring sinkhorn --logits 131072
--patch-logits 131072 --bottleneck 384). Its code decays class token, mask token and positions too, spared here.

    torchrun recipes/pretrain_dinov2.py
        a small ViT on scikit-learn's handwritten digits: k-NN of about 87 % (k = 20; random weights 51 %)

    torchrun --nnodes 4 --nproc-per-node 8 recipes/pretrain_dinov2.py \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: its authors report 81.6 % by k-NN and 82.9 % by a linear probe; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, MultiCrop, TrainLoader, dinov2_views, knn_shards, pretraining_shards
from blocks.layers.published_heads import dino_head
from blocks.objectives.ibot import IBOT
from blocks.objectives.monitored import monitored
from blocks.optim.adamw import adamw
from blocks.optim.scales import layer_decay
from blocks.optim.schedule import cosine, linear, scaled_lr, warmup_cosine
from blocks.probe.knn_monitor import knn_monitor
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
TRUNKS = {name: getattr(blocks, name) for name in ("vit_small", "vit_base", "vit_large", "convit_small", "convit_base")}
TRUNKS["vit_micro"] = partial(blocks.vit, **MICRO)
TRUNKS["convit_micro"] = partial(blocks.convit, **MICRO, local_up_to_layer=3)


@attrs.frozen
class Recipe(RunOptions):
    """The published values; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards, with labels or without: a pattern, a folder, or "digits"
    val: str = ""  # labelled shards for k-NN; none needed where data is a folder with both, or has no labels
    trunk: Literal[tuple(TRUNKS)] = "vit_large"  # the model below the head; micro: for thumbnails
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    drop_path: float = 0.3  # probability of skipping the last layer, from 0 at the first (its code: all alike); 0: off
    init_values: float = 1e-5  # of the layer scales at the start; 0: none
    hidden: int = 2048  # width of the head's hidden layers
    bottleneck: int = 256  # width before the last layer
    logits: int = 65_536  # outputs of the head, for class token and, without patch_logits, patches
    patch_logits: int = 0  # outputs of a head for the patches alone; 0: none
    centring: Literal["mean", "sinkhorn"] = "mean"  # what keeps the teacher from saying the same of all
    koleo: float = 0.1  # weight of what keeps features of large crops apart; 0: off
    freeze_epochs: float = 2.0  # in which the last layer stays as drawn; 0: none
    momentum: float = 0.992  # of the teacher: what stays of it in a step; grows to 1 by a cosine
    teacher_temp: tuple[float, float] = (0.04, 0.07)  # the teacher's temperature at the start, and after temp_epochs
    temp_epochs: int = 60  # in which the teacher's temperature rises
    epochs: int = 200  # passes over the training images; one of its code's is two of ImageNet-1k's
    batch_size: int = 2048  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 4e-3  # peak rate for 1,024 images, times the square root of the batch over them
    min_lr: float = 1e-6  # the rate at the end of the cosine, whatever the batch, but at most the peak
    layer_decay: float = 0.9  # factor on the rate from a layer to the one below; 1: off
    patch_lr: float = 0.2  # factor on the patch embedding's rate, besides; 1: off
    warmup_epochs: float = 20.0  # of a linear rise from 0; 0: none
    weight_decay: tuple[float, float] = (0.04, 0.4)  # of weights alone, at the start and, by a cosine, at the end
    clip_norm: float = 3.0  # largest norm of the gradient (its code: of the trunk's, and of the head's); 0: any
    local_size: int = 96  # pixels of a side of the small crops
    num_local: int = 8  # small crops of an image, beside two large ones; 0: none
    scale: tuple[float, float] = (0.32, 1.0)  # least and largest area of the large crops, shares of the image
    local_scale: tuple[float, float] = (0.05, 0.32)  # of the small crops
    flip: float = 0.5  # probability of mirroring an image
    sigma: tuple[float, float] = (0.1, 2.0)  # least and largest width of the blur, pixels
    augment: Literal["auto", "workers", "device"] = "auto"  # where views are made; auto: on a GPU if there is one
    knn_share: float = 0.1  # share of the training images that vote in evaluation by k-NN
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/pretrain_dinov2"  # checkpoints and metrics; a run found here goes on


DIGITS = dict(
    trunk="vit_micro", img_size=16, patch_size=4, drop_path=0.0, init_values=0.0, hidden=256, bottleneck=64, logits=256,
    centring="sinkhorn", freeze_epochs=1.0, momentum=0.9, teacher_temp=(0.02, 0.02), temp_epochs=1, epochs=30,
    batch_size=64, layer_decay=1.0, patch_lr=1.0, warmup_epochs=2.0, local_size=8, num_local=2, scale=(0.6, 1.0),
    local_scale=(0.3, 0.6), sigma=(0.1, 0.5), flip=0.0, knn_share=1.0, augment="device", precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        where = r.loading(processes)
        knobs = dict(scale=r.scale, local_scale=r.local_scale, flip=r.flip, sigma=r.sigma)
        crops = MultiCrop(dinov2_views(r.img_size, r.local_size, r.num_local, **knobs), home=processes.home(r.augment))
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crops, **r.order, **where)
        votes, seen = knn_shards(train_shards, val_shards, r.knn_share), EvalTransform(r.img_size)
        knn = [EvalLoader(shards, batch_size=256, transform=seen, **where) for shards in votes]

        steps = train_data.steps_per_epoch
        knobs = dict(patch_size=r.patch_size, drop_path_rate=r.drop_path, init_values=r.init_values or None)
        body = TRUNKS[r.trunk](num_classes=0, img_size=r.img_size, **knobs)
        head = partial(dino_head, body.trunk.embed_dim, hidden_features=r.hidden, bottleneck_features=r.bottleneck)
        model, momentum = attrs.evolve(body, head=head(r.logits)), cosine(r.momentum, 1.0, r.epochs * steps)
        temperature = linear(*r.teacher_temp, r.temp_epochs * steps)  # of class token and patches
        knobs = dict(centring=r.centring, koleo_weight=r.koleo, teacher_temp=temperature, patch_temp=temperature)
        dinov2 = IBOT(model, momentum, patch_head=head(r.patch_logits) if r.patch_logits else None, **knobs)
        peak = scaled_lr(r.lr, r.batch_size, per=1024, rule="sqrt")
        rate = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, end=min(r.min_lr, peak))
        decay, wake = cosine(*r.weight_decay, r.epochs * steps), {"*last_layer.*": round(r.freeze_epochs * steps)}
        scales = layer_decay(dinov2.fresh(blocks.key(0, device="meta")), r.layer_decay, r.patch_lr)
        run(
            monitored(dinov2, train_shards.num_classes), adamw(rate, weight_decay=decay, wake=wake, lr_scales=scales),
            train_data, epochs=r.epochs, options=r, processes=processes, evaluate=knn_monitor(model, knn, processes),
            clip_norm=r.clip_norm or None, accumulate=r.accumulate, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
