r"""How good are a trained trunk's features? Linear classifiers on them, the trunk frozen, crops and flips alone
(as Chen et al. 2021, "An empirical study of training self-supervised vision transformers", appendix). Several rates
are tried in one pass: the right one depends on the scale of the features.

    python recipes/convit_supervised.py && torchrun recipes/linear_probe.py
        the digits' small ConViT, in half a minute on 2 CPU cores

    torchrun --nproc-per-node 8 recipes/linear_probe.py --weights vit-b-300ep.pth.tar --model vit_base \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar'
        ImageNet-1k: MoCo v3's code reports 76.7 % for ViT-B, 73.2 % for ViT-S (vit_small_12_heads); not run here

    ... --weights mae_pretrain_vit_base.pth --pos-embed sincos --standardise
        MAE's features want it (He et al. 2022, A.1): 68.0 % for ViT-B, by LARS and batches of 16,384; not run here
"""

from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import torch

import blocks
from blocks import tree
from blocks.data import EvalLoader, TrainLoader, TrainTransform, train_and_val
from blocks.data.seen import seen_as
from blocks.interop.checkpoints import load_weights
from blocks.interop.chosen import chosen
from blocks.objectives.linear_probes import HEADS_ALONE, LinearProbes
from blocks.optim.schedule import cosine, scaled_lr
from blocks.optim.sgd import sgd
from blocks.probe.features import features
from blocks.probe.probe_accuracy import ProbeAccuracy
from blocks.runs.checkpoint import CLASSIFIER, file_of
from blocks.runs.data_of import colours_of, data_of_run, images_of
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.loop import run
from blocks.train.options import RunOptions
from blocks.train.precision import compute_dtype

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = [f"{name}_{size}" for name in ("vit", "deit", "convit") for size in ("tiny", "small", "base")]
MODELS = {
    "vit_micro": partial(blocks.vit, **MICRO), "convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3),
    **{name: getattr(blocks, name) for name in SIZES},
    "vit_small_12_heads": partial(blocks.vit_small, num_heads=12),  # MoCo v3's own ViT-S
}  # fmt: skip


@attrs.frozen
class Recipe(RunOptions):
    """Of the model, what is "" or 0 is as the weights' run had it, else as in USUAL; DIGITS is for no other data."""

    weights: str = ""  # a run's folder or best.pt; a checkpoint of ours, timm's, DeiT's, ConViT's, VISSL's; "": random
    which: Literal["params", "ema", "teacher"] = "params"  # of those in the checkpoint
    model: Literal[("", *MODELS)] = ""  # "": that of the weights' run, else vit_base
    trusted: tuple[str, ...] = ()  # packages or files (mine.py) of whose blocks a run's model may be made
    global_pool: Literal["", "token", "avg"] = ""  # the feature: class token or mean; "": the run's, else token
    pos_embed: Literal["", "learn", "sincos"] = ""  # sincos: MAE's files, learn: MoCo v3's; "": the run's, else learn
    standardise: bool = False  # features to mean 0 and variance 1 over the training images
    data: str = "digits"  # training shards: a pattern, a folder, "digits"; by default those of the weights' run
    val: str = ""  # validation shards, named likewise; none needed where data is a folder with both
    img_size: int = 0  # pixels of a side; 0: the run's, else 224
    patch_size: int = 0  # pixels of a side; 0: the run's, else 16
    epochs: int = 90  # passes over the training images
    batch_size: int = 1024  # images a step, over all processes
    lrs: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # peaks per 256 images, a classifier for each
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest area of a random crop, shares of the image
    flip: float = 0.5  # probability of mirroring an image
    crop_pct: float = 0.0  # share of the resized image's side that evaluation sees; 0: the run's, else 0.875
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the computation; params are float32
    out: str = "runs/linear_probe"  # checkpoints and metrics; a run found here goes on


USUAL = dict(model="vit_base", img_size=224, patch_size=16, global_pool="token", pos_embed="learn")
DIGITS = dict(
    weights="runs/convit_supervised", epochs=10, batch_size=64, scale=(0.7, 1.0), flip=0.0,
    precision="float32", workers=1,
)  # fmt: skip


def main(r: Recipe) -> None:
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = train_and_val(r.data, r.val)
        weights, key = file_of(r.weights) if r.weights else None, blocks.key(r.seed, processes.device)
        model, size = chosen(MODELS, weights, r, num_classes=0, usual=USUAL)
        probes = LinearProbes(model, train_shards.num_classes, heads=len(r.lrs))
        params, report = model.init(key), "random weights"
        if weights:
            params, report = load_weights(model, weights, key=key, which=r.which, head="new")
        params = probes.with_heads(params)

        where = r.loading(processes) | dict(num_classes=train_shards.num_classes) | colours_of(weights)
        crop = TrainTransform(size, scale=r.scale, flip=r.flip)
        train_data = TrainLoader(train_shards, batch_size=r.batch_size, transform=crop, **r.order, **where)
        seen = where | seen_as(images_of(weights), img_size=size, crop_pct=r.crop_pct) | dict(batch_size=256)
        val_data, dtype = EvalLoader(val_shards, **seen), compute_dtype(r.precision)
        if r.standardise:
            found = features(model, params, EvalLoader(train_shards, **seen), processes, dtype=dtype)
            params = probes.standardised(params, found.values)

        schedule = cosine(scaled_lr(1.0, r.batch_size, per=256), 0.0, r.epochs * train_data.steps_per_epoch)
        scales = {f"heads.{k}.*": lr for k, lr in enumerate(r.lrs)}
        result = run(
            probes, sgd(schedule, momentum=0.9, lr_scales=scales), train_data, val_data, params=params,
            frozen=HEADS_ALONE, evaluate=ProbeAccuracy(probes, val_data, processes, dtype), epochs=r.epochs, options=r,
            processes=processes, precision=r.precision,
        )  # fmt: skip

        if processes.is_main and result.finished:
            last = result.history[-1]
            print(report, *(f"lr {lr:g}: {last[f'val_top1_{k}']:.2%}" for k, lr in enumerate(r.lrs)), sep="\n")
            best = tree.flatten(probes.classifier(result.state.params, int(last["val_best_head"])))
            torch.save(best, Path(r.out) / CLASSIFIER)  # recipes/evaluate.py takes it


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}, known=data_of_run))
