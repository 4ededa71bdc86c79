r"""A trained model goes on: at another image size, with other classes, from this library's or another's checkpoint.
The published case: DeiT-B from 224 to 384 pixels (Touvron et al. 2021, sections 3 and 6; DeiT's README).

    python recipes/convit_supervised.py && torchrun recipes/finetune.py
        the digits' small ConViT from 16 to 24 pixels: 98.1 % top-1 in about a minute on 2 CPU cores

    torchrun --nproc-per-node 8 recipes/finetune.py --weights deit_base_patch16_224-b5f2ef4d.pth \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar' --model deit_base
        ImageNet-1k: DeiT reports 82.9 %, from 81.8 % at 224 pixels; not run here
"""

from functools import partial
from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, Mixing, RandomErasing, TrainLoader, TrainTransform, train_and_val
from blocks.data.head_classes import for_head
from blocks.interop.checkpoints import load_weights
from blocks.interop.chosen import chosen
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.scales import head_lr, layer_decay
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.runs.checkpoint import file_of
from blocks.runs.data_of import classes_of, colours_of, data_of_run
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = [f"{name}_{size}" for name in ("vit", "deit", "convit") for size in ("tiny", "small", "base")]
MODELS = {name: getattr(blocks, name) for name in SIZES} | {"vit_micro": partial(blocks.vit, **MICRO)}
MODELS |= {"convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3)}
MODELS |= {"vit_small_12_heads": partial(blocks.vit_small, num_heads=12)}  # MoCo v3's own ViT-S


@attrs.frozen
class Recipe(RunOptions):
    """DeiT's values for 384 pixels. Of the model, "" and 0 are as the weights' run had it, else as in USUAL."""

    weights: str = ""  # a run's folder or best.pt; a checkpoint of ours, timm's, DeiT's, ConViT's, VISSL's
    which: Literal["params", "ema", "teacher"] = "params"  # of those in the checkpoint
    model: Literal[("", *MODELS)] = ""  # "": that of the weights' run, else deit_base
    trusted: tuple[str, ...] = ()  # packages or files (mine.py) of whose blocks a run's model may be made
    global_pool: Literal["", "token", "avg"] = ""  # the head's input: class token or mean; "": the run's, else token
    pos_embed: Literal["", "learn", "sincos"] = ""  # sincos: MAE's files, learn: MoCo v3's; "": the run's, else learn
    data: str = "digits"  # training shards: a pattern, a folder, "digits"; by default those of the weights' run
    val: str = ""  # validation shards, named likewise; none needed where data is a folder with both
    head: Literal["keep", "fit", "new"] = "fit"  # fit: a new one where other classes are to be learned
    img_size: int = 0  # pixels of a side: images are cropped or resized to it; 0: the run's, else 384
    patch_size: int = 0  # pixels of a side; 0: the run's, else 16
    drop_path: float = 0.1  # probability of skipping the last layer, from 0 at the first; 0: off
    epochs: int = 30  # passes over the training images
    batch_size: int = 512  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 5e-6  # peak rate per 512 images of the batch
    min_lr: float = 5e-6  # the rate at the end of the cosine, whatever the batch, but at most the peak
    warmup_epochs: float = 5.0  # of a linear rise from 1e-6; 0: none
    layer_decay: float = 1.0  # factor on the rate from a layer to the one below: BEiT and MAE 0.65 to 0.75; 1: off
    head_lr: float = 1.0  # factor on the head's rate
    weight_decay: float = 1e-8  # of weights, not of biases, norms, tokens and positions; 0: off
    smoothing: float = 0.1  # of the labels: the share given to all classes alike; 0: off
    clip_norm: float = 0.0  # largest norm of the gradient; 0: any
    ema_decay: float = 0.0  # of the average of the params, a step; 0: no average
    policy: str = "rand-m9-mstd0.5-inc1"  # RandAugment, in timm's words; "": none
    mixup: float = 0.8  # alpha of MixUp's shares; 0: off
    cutmix: float = 1.0  # alpha of CutMix's shares; 0: off
    erase: float = 0.25  # probability of random erasing; 0: off
    repeats: int = 3  # augmented copies of an image in an epoch, of 1 / repeats of the images; 1: off
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    crop_pct: float = 1.0  # share of the resized image's side that evaluation sees; timm's: DeiT's code has 0.875
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    compile: bool | Literal["layers", "loss", "step", "graph"] = False  # true: the loss; false: nothing is compiled
    out: str = "runs/finetune"  # checkpoints and metrics; a run found here goes on


USUAL = dict(model="deit_base", img_size=384, patch_size=16, global_pool="token", pos_embed="learn")
DIGITS = dict(
    weights="runs/convit_supervised", img_size=24, drop_path=0.05, epochs=10, batch_size=64, lr=8e-3, min_lr=1e-5,
    warmup_epochs=1.0, layer_decay=0.75, weight_decay=0.05, policy="", mixup=0.0, cutmix=0.0, erase=0.0, repeats=1,
    scale=(0.7, 1.0), flip=0.0, precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        weights, key = file_of(r.weights), blocks.key(r.seed, processes.device)
        (train_shards, val_shards), head = for_head(train_and_val(r.data, r.val), classes_of(weights), r.head)
        classes = train_shards.num_classes
        knobs = dict(usual=USUAL, num_classes=classes, head=head, drop_path_rate=r.drop_path)
        model, size = chosen(MODELS, weights, r, **knobs)
        params, report = load_weights(model, weights, key=key, which=r.which, head=head)
        processes.say(report)

        where = r.loading(processes) | dict(num_classes=classes) | colours_of(weights)
        train_data = TrainLoader(
            train_shards, batch_size=r.batch_size, repeats=r.repeats, erase=RandomErasing(r.erase) if r.erase else None,
            transform=TrainTransform(size, r.scale, flip=r.flip, policy=r.policy),
            mix=Mixing(classes, r.mixup, r.cutmix) if r.mixup or r.cutmix else None, **r.order, **where,
        )  # fmt: skip
        val_data = EvalLoader(val_shards, batch_size=256, transform=EvalTransform(size, r.crop_pct), **where)

        steps, peak = train_data.steps_per_epoch, scaled_lr(r.lr, r.batch_size, per=512)
        start, end = min(1e-6, peak), min(r.min_lr, peak)  # a small batch's peak may lie below
        schedule = warmup_cosine(peak, round(r.warmup_epochs * steps), r.epochs * steps, start=start, end=end)
        scales = {**layer_decay(params, r.layer_decay), **head_lr(params, r.head_lr)}
        optimizer = adamw(schedule, weight_decay=r.weight_decay, lr_scales=scales)
        run(
            Supervised(model, label_smoothing=r.smoothing), optimizer, train_data, val_data, params=params,
            epochs=r.epochs, options=r, processes=processes, clip_norm=r.clip_norm or None, accumulate=r.accumulate,
            ema_decay=r.ema_decay or None, precision=r.precision, compile=r.compile,
        )  # fmt: skip


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}, known=data_of_run))
