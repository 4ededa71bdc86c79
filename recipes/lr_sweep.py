r"""Which learning rate? Many runs of a small ConViT side by side in one vmapped step, and the curve over their rates.

    python recipes/lr_sweep.py
        a micro ConViT on scikit-learn's handwritten digits: 8 learning rates in about a minute on 2 CPU cores;
        the best of them, 2.6e-3, has 80.8 % top-1 after the 6 epochs, five times as much 58.2 %

    python recipes/lr_sweep.py --lr-min 1e-3 --lr-max 1e-2 --num-lrs 6 --num-seeds 4 --epochs 20
        a closer look; --plot '' writes the table alone, without matplotlib

    python recipes/lr_sweep.py --data shards/ --size micro --img-size 64 --patch-size 8 --local-layers 3
        on one's own images; all runs' params and activations are on one device at once, in float32

Every rate gets the whole of its short schedule: warm-up and cosine (DeiT's form; Touvron et al. 2021, table 9).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import attrs
from rich.console import Console
from rich.table import Table
from torch import Tensor, logspace, tensor

from blocks import convit, convit_tiny
from blocks.data import EvalLoader, EvalTransform, TrainLoader, TrainTransform, train_and_val
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.pictures.figures import rates_figure
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.sweep import sweep

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = {"micro": lambda **knobs: convit(**MICRO, **knobs), "tiny": convit_tiny}


@attrs.frozen
class Recipe:
    """Values for photographs; DIGITS replaces some when no other data is named."""

    data: str = "digits"  # training shards: a brace pattern, a glob, a folder, or "digits"
    val: str = ""  # validation shards, named likewise; none needed where data is a folder with both
    size: Literal["micro", "tiny"] = "tiny"  # of the model; micro is for thumbnails
    img_size: int = 224  # pixels of a side: images are cropped or resized to it
    patch_size: int = 16  # pixels of a side; divides img_size
    local_layers: int = 10  # layers of GPSA below those of plain attention; 0: none
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    crop_pct: float = 0.875  # share of the resized image's side that evaluation sees
    lr_min: float = 1e-4  # the lowest peak rate, for the batch as it is
    lr_max: float = 3e-2  # the highest
    num_lrs: int = 8  # how many rates, evenly spaced by factors
    num_seeds: int = 1  # runs a rate: what else differs by chance
    epochs: int = 6  # passes over the training images, of every run
    batch_size: int = 64  # images a step, for every run
    warmup_epochs: float = 1.0  # of a linear rise from 0; 0: none
    weight_decay: float = 0.05  # of weights, not of biases, norms, tokens and positions; 0: off
    drop_path: float = 0.05  # probability of skipping the last layer, from 0 at the first; 0: off
    smoothing: float = 0.1  # of the labels: the share given to all classes alike; 0: off
    clip_norm: float = 1.0  # largest norm of the gradient; 0: any
    workers: int = 8  # loading processes; 0: none, the program loads by itself
    shuffle_window: int = 0  # samples shuffled together, for remote shards; 0: all
    seed: int = 0  # of the first run of each rate, and of the batches
    plot: str = "runs/lr_sweep.png"  # file for the curve; "": none


SMALL = dict(size="micro", img_size=16, patch_size=4, local_layers=3)
DIGITS = SMALL | dict(scale=(0.7, 1.0), flip=0.0, crop_pct=1.0, workers=1)


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        if not 0 < r.lr_min <= r.lr_max:
            raise ValueError(f"--lr-min {r.lr_min:g} is not above 0 and at most --lr-max {r.lr_max:g}")
        if r.plot and find_spec("matplotlib") is None:
            raise ValueError("matplotlib draws the curve: pip install matplotlib, or --plot '' for none")
        train_shards, val_shards = train_and_val(r.data, r.val)
        where = dict(num_classes=train_shards.num_classes, num_workers=r.workers, device=processes.device)
        transform = TrainTransform(r.img_size, scale=r.scale, flip=r.flip)
        order = dict(seed=r.seed, shuffle_window=r.shuffle_window or None)
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=transform, **order, **where)
        val_data = EvalLoader(val_shards, batch_size=256, transform=EvalTransform(r.img_size, r.crop_pct), **where)

        sizes = dict(num_classes=train_shards.num_classes, img_size=r.img_size, patch_size=r.patch_size)
        model = SIZES[r.size](local_up_to_layer=r.local_layers, drop_path_rate=r.drop_path, **sizes)
        objective = Supervised(model, label_smoothing=r.smoothing)

        lrs = logspace(tensor(r.lr_min).log10(), tensor(r.lr_max).log10(), r.num_lrs).tolist()
        runs = [(lr, seed) for lr in lrs for seed in range(r.seed, r.seed + r.num_seeds)]
        steps = train_data.steps_per_epoch
        schedules = [warmup_cosine(lr, round(r.warmup_epochs * steps), r.epochs * steps) for lr, _ in runs]

        found = sweep(
            objective, [adamw(schedule, weight_decay=r.weight_decay) for schedule in schedules], train_data, val_data,
            epochs=r.epochs, seeds=[seed for _, seed in runs], clip_norm=r.clip_norm or None, processes=processes,
        )  # fmt: skip

        loss = found.curves["loss"][-1].view(r.num_lrs, r.num_seeds)  # [rates, seeds]
        top1 = tensor([score["top1"] for score in found.scores]).view(r.num_lrs, r.num_seeds)
        show(lrs, loss, top1)
        if r.plot:
            Path(r.plot).parent.mkdir(parents=True, exist_ok=True)
            rates_figure(lrs, loss, top1).savefig(r.plot, dpi=150)
            print(f"the curve: {r.plot}")


def show(lrs: list[float], loss: Tensor, top1: Tensor) -> None:
    """The table, with the best rate: the highest accuracy over the seeds, among equals the lowest loss."""
    table = Table("learning rate", "loss of the last epoch", "val top-1, mean", "of each seed", title="the sweep")
    rows = list(zip(lrs, loss.mean(1).tolist(), top1.mean(1).tolist(), top1.tolist(), strict=True))
    for lr, mean_loss, mean_top1, each in rows:
        table.add_row(f"{lr:.2e}", f"{mean_loss:.4f}", f"{mean_top1:.2%}", " ".join(f"{value:.2%}" for value in each))
    Console().print(table)
    print(f"best learning rate: {max(rows, key=lambda row: (row[2], -row[1]))[0]:.2e}")


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}))
