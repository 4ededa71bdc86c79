r"""DeiT taught by a convolutional network, through a token of its own: Touvron et al. 2021, section 4.

    torchrun recipes/deit_distilled.py
        handwritten digits: a ResNet-18, 98.3 %, then its student, 98.3 % top-1, in 3 minutes on 2 CPU cores

    torchrun --nproc-per-node 8 recipes/deit_distilled.py --teacher regnet_y_16gf --teacher-weights regnet.pth \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar' --size base
        ImageNet-1k: the paper reports 74.5 % (tiny), 81.2 % (small) and 83.4 % (base); not run here
"""

from typing import Literal

import attrs

import blocks
from blocks.data import EvalLoader, EvalTransform, Mixing, RandomErasing, TrainLoader, TrainTransform, train_and_val
from blocks.interop.torchvision_model import NAMES, torchvision_model
from blocks.objectives.distillation import Distillation
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = {size: getattr(blocks, f"deit_{size}_distilled") for size in ("tiny", "small", "base")}
SIZES["micro"] = lambda **knobs: blocks.distilled(blocks.vit(**MICRO, **knobs))
STUDENTS = ("size", "kind", "alpha", "tau", "patch_size", "drop_path", "epochs", "lr", "ema_decay")  # not its teacher's


@attrs.frozen
class Recipe(RunOptions):
    """The published values; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards: a brace pattern, a glob, a folder, or "digits"
    val: str = ""  # validation shards, named likewise; none needed where data is a folder with both
    size: Literal["micro", "tiny", "small", "base"] = "small"  # of the model; micro is for thumbnails
    teacher: Literal[NAMES] = "resnet50"  # a model of torchvision.models, by its name there
    teacher_weights: str = ""  # file of its state_dict; "": trained here first, with group norm for batch norm
    teacher_epochs: int = 100  # of training the teacher; idle with teacher_weights
    teacher_lr: float = 1e-3  # its peak rate per 512 images of the batch
    kind: Literal["hard", "soft"] = "hard"  # hard: learn the teacher's choice, soft: its probabilities
    alpha: float = 0.5  # the teacher's share of the loss, 0 to 1; the paper's soft one has 0.1
    tau: float = 1.0  # temperature of soft distillation, 3 in the paper; hard has 1
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    drop_path: float = 0.1  # probability of skipping the last layer, from 0 at the first; 0: off
    epochs: int = 300  # passes over the training images
    batch_size: int = 1024  # images a step, over all processes
    accumulate: int = 1  # parts of the batch, one after another: a step in less memory; 1: whole
    lr: float = 5e-4  # peak rate per 512 images of the batch
    min_lr: float = 1e-5  # the rate at the end of the cosine, whatever the batch, but at most the peak
    warmup_epochs: float = 5.0  # of a linear rise from 1e-6; the teacher's at most a quarter of its epochs; 0: none
    weight_decay: float = 0.05  # of weights, not of biases, norms, tokens and positions; 0: off
    smoothing: float = 0.1  # of the labels: the share given to all classes alike; 0: off
    clip_norm: float = 0.0  # largest norm of the gradient; 0: any
    ema_decay: float = 0.99996  # of the average of the student's params, a step; 0: no average
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
    out: str = "runs/deit_distilled"  # teacher/ and student/: checkpoints and metrics; a run found here goes on


DIGITS = dict(
    size="micro", teacher="resnet18", teacher_epochs=8, teacher_lr=4e-3, img_size=16, patch_size=4, drop_path=0.05,
    epochs=40, batch_size=64, lr=16e-3, min_lr=0.0, warmup_epochs=3.0, ema_decay=0.0, repeats=1, scale=(0.7, 1.0),
    flip=0.0, policy="", erase=0.0, mixup=0.0, cutmix=0.0, crop_pct=1.0, precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = train_and_val(r.data, r.val)
        classes = train_shards.num_classes
        where = r.loading(processes) | dict(num_classes=classes)
        transform = TrainTransform(r.img_size, scale=r.scale, flip=r.flip, policy=r.policy, home=r.augment)
        train_data = TrainLoader(
            train_shards, batch_size=r.batch_size, transform=transform,
            repeats=r.repeats, erase=RandomErasing(r.erase) if r.erase else None,
            mix=Mixing(classes, r.mixup, r.cutmix) if r.mixup or r.cutmix else None, **r.order, **where,
        )  # fmt: skip
        val_data = EvalLoader(val_shards, batch_size=256, transform=EvalTransform(r.img_size, r.crop_pct), **where)

        def train(objective, lr, epochs, name, unheeded=()):
            warmup = min(r.warmup_epochs, epochs / 4) if name == "teacher" else r.warmup_epochs
            fused = "loss" if (name, r.compile) == ("teacher", "layers") else r.compile  # it has no encoder layers
            steps, peak = train_data.steps_per_epoch, scaled_lr(lr, r.batch_size, per=512)
            start, end = min(1e-6, peak), min(r.min_lr, peak)  # a small batch's peak may lie below
            schedule = warmup_cosine(peak, round(warmup * steps), epochs * steps, start=start, end=end)
            return run(
                objective, adamw(schedule, weight_decay=r.weight_decay), train_data, val_data, epochs=epochs, options=r,
                out=f"{r.out}/{name}", processes=processes, clip_norm=r.clip_norm or None, accumulate=r.accumulate,
                ema_decay=r.ema_decay or None if name == "student" else None, precision=r.precision, compile=fused,
                settings={field: value for field, value in r.settings.items() if field not in unheeded},
            )  # fmt: skip

        teacher, taught = torchvision_model(r.teacher, classes, r.teacher_weights)
        if taught is None:
            lesson = train(Supervised(teacher, r.smoothing), r.teacher_lr, r.teacher_epochs, "teacher", STUDENTS)
            taught = lesson.state.params
        knobs = dict(img_size=r.img_size, patch_size=r.patch_size, drop_path_rate=r.drop_path)
        model = SIZES[r.size](num_classes=classes, **knobs)
        objective = Distillation(model, teacher, taught, r.kind, r.alpha, r.tau, r.smoothing)
        train(objective, r.lr, r.epochs, "student")


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
