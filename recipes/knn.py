r"""What are a trunk's features worth without any training on top? k nearest neighbours among the training images vote
(Wu et al. 2018, section 3.4; as Caron et al. 2021, DINO, section 3.2; k = 10 to 200, temperature 0.07 in its code).

    python recipes/knn.py
        the digits by a small ConViT with random weights: 61 %, what any pretraining has to beat; seconds on 2 CPU cores

    python recipes/pretrain_moco.py && python recipes/knn.py --weights runs/pretrain_moco --which teacher
        the same trunk after MoCo, on the images as pretraining evaluated them

    torchrun --nproc-per-node 8 recipes/knn.py --weights dino_deitsmall16_pretrain.pth --model vit_small \
        --data 'shards/train-{000000..000146}.tar' --val 'shards/val-{000000..000006}.tar' --features imagenet.npz
        ImageNet-1k: DINO reports 74.5 % for ViT-S; not run here
"""

from functools import partial
from pathlib import Path
from typing import Literal

import attrs
from rich.console import Console
from rich.table import Table

import blocks
from blocks.data import EvalLoader, knn_shards, pretraining_shards
from blocks.data.seen import seen_as
from blocks.interop.checkpoints import load_weights
from blocks.interop.chosen import chosen
from blocks.probe.feature_file import save_features
from blocks.probe.features import features, gathered
from blocks.probe.knn import knn, numbers_of_neighbours
from blocks.runs.checkpoint import file_of
from blocks.runs.data_of import data_of_run, images_of
from blocks.train.cli import cli
from blocks.train.distributed import connect
from blocks.train.precision import compute_dtype

MICRO = dict(embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
SIZES = [f"{name}_{size}" for name in ("vit", "deit", "convit") for size in ("tiny", "small", "base")]
MODELS = {name: getattr(blocks, name) for name in SIZES} | {"vit_micro": partial(blocks.vit, **MICRO)}
MODELS |= {"convit_micro": partial(blocks.convit, **MICRO, local_up_to_layer=3)}
MODELS |= {"vit_small_12_heads": partial(blocks.vit_small, num_heads=12)}  # MoCo v3's own ViT-S


@attrs.frozen
class Recipe:
    """Of the model, what is "" or 0 is as the weights' run had it, else as in USUAL; DIGITS is for no other data."""

    weights: str = ""  # a run's folder or best.pt; a checkpoint of ours, timm's, DINO's, MoCo v3's, VISSL's; "": random
    which: Literal["params", "ema", "teacher"] = "params"  # of those in the checkpoint
    model: Literal[("", *MODELS)] = ""  # "": that of the weights' run, else vit_small, for digits convit_micro
    trusted: tuple[str, ...] = ()  # packages or files (mine.py) of whose blocks a run's model may be made
    global_pool: Literal["", "token", "avg"] = ""  # the feature: class token or mean; "": the run's, else token
    pos_embed: Literal["", "learn", "sincos"] = ""  # sincos: MAE's files, learn: MoCo v3's; "": the run's, else learn
    data: str = "digits"  # training shards, by default the weights' run's; without labels for --features alone
    val: str = ""  # validation shards; none needed where data is a folder with both, or has no labels
    img_size: int = 0  # pixels of a side; 0: the run's, else 224, for digits 16
    patch_size: int = 0  # pixels of a side; 0: the run's, else 16, for digits 4
    crop_pct: float = 0.0  # share of the resized image's side that is seen; 0: the run's, else 0.875
    k: tuple[int, ...] = (10, 20, 100, 200)  # how many neighbours vote: an accuracy for each
    temperature: float = 0.07  # of the votes: less counts the nearest more
    batch_size: int = 256  # images at a time, per process
    precision: Literal["bfloat16", "float16", "float32"] = "float32"  # of the computation of features
    features: str = ""  # .npz file for the training images' features, labels, numbers and names; "": none
    workers: int = 8  # loading processes for each process; 0: none, it loads by itself
    max_unreadable: float = 0.01  # share of the images that may be unreadable; 0: not one
    seed: int = 0  # of random weights


USUAL = dict(model="vit_small", img_size=224, patch_size=16, global_pool="token", pos_embed="learn")
DIGITS_USUAL = dict(model="convit_micro", img_size=16, patch_size=4)
DIGITS = dict(workers=1)


def main(r: Recipe) -> None:
    ks = numbers_of_neighbours(r.k, r.temperature)
    if r.which != "params" and not r.weights:
        raise ValueError(f"--which {r.which} is of a checkpoint; name one by --weights")
    if r.features and not Path(r.features).parent.is_dir():
        raise ValueError(f"--features {r.features}: there is no folder {Path(r.features).parent}; make it first")
    with connect(data_workers=r.workers) as processes:
        train_shards, val_shards = pretraining_shards(r.data, r.val)
        votes = knn_shards(train_shards, val_shards, 1.0)
        if not votes and not r.features:
            raise ValueError(
                f"--data {r.data} has no labels for k-NN; --val SHARDS with some vote, --features FILE.npz wants none"
            )

        usual, weights = DIGITS_USUAL if r.data == "digits" else USUAL, file_of(r.weights) if r.weights else None
        model, size = chosen(MODELS, weights, r, num_classes=0, usual=usual)
        key = blocks.key(r.seed, processes.device)
        params, report = model.init(key), "random weights"
        if weights:
            params, report = load_weights(model, weights, key=key, which=r.which, head="new")

        settings = dict(batch_size=r.batch_size, num_workers=r.workers, max_unreadable=r.max_unreadable)
        settings |= dict(rank=processes.rank, world_size=processes.world_size, device=processes.device)
        settings |= seen_as(images_of(weights), img_size=size, crop_pct=r.crop_pct)

        def seen(shards):
            return features(model, params, EvalLoader(shards, **settings), processes, dtype=compute_dtype(r.precision))

        voters, *asked = map(seen, votes or [train_shards])
        found = knn(voters, *asked, ks, r.temperature) if votes else {}

        processes.say(report)
        if processes.is_main and votes:
            table = Table("k", "top-1")
            for k, top1 in zip(ks, found.values(), strict=True):
                table.add_row(str(k), f"{top1:.2%}")
            print(f"k-NN of the features, {len(votes[0]):,} images of {r.data} vote")
            Console(highlight=False).print(table)
        if r.features:
            whole = gathered(voters if train_shards.labelled or not votes else seen(train_shards))
            if processes.is_main:
                save_features(r.features, whole, [train_shards.name(sample) for sample in whole.index.tolist()])
                print(f"{len(whole):,} features of width {whole.values.shape[1]} are in {r.features}")


if __name__ == "__main__":
    main(cli(Recipe, presets={"data": {"digits": DIGITS}}, known=data_of_run))
