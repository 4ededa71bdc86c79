"""What pretraining makes of a trunk on data of one's own: k-NN and a linear probe, method by method, trunk by trunk.

    python bench/pretraining.py --data 'shards/train-*.tar' --val 'shards/val-*.tar' --runs runs/pretrained \
        --out pretrained.jsonl --knobs img_size=32 patch_size=4 epochs=4

Each row is a recipe's own run with its small preset, that for the digits, and `knobs` over it where a recipe has them.
"random" is the trunk before any training, "supervised" the recipe with labels. k-NN (k = 20) and probe are the
teacher's where there is one; the probe is a linear classifier on the frozen trunk's standardised features, the best of
its rates on these validation images.
"""

import argparse
import json
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from measure import hardware  # bench/measure.py: a script's own folder is on its path

RECIPES = Path(__file__).parents[1] / "recipes"
METHODS = ("moco", "moco_v3", "swav", "simclr", "byol", "barlow_twins", "vicreg", "dino", "ibot", "dinov2", "mae")
KINDS = ("random", "supervised", *METHODS)
TEACHES = ("moco_v3", "byol", "dino", "ibot", "dinov2")  # which have a better teacher
SINES = ("moco_v3", "mae")  # which have fixed positions
SUPERVISED = {"vit_micro": "vit_supervised", "convit_micro": "convit_supervised"}


def recipe(name: str, settings: dict[str, Any], knobs: dict[str, str]) -> str:
    """Run a recipe by its small preset, with the knobs that it knows and then the settings over it; what it prints."""
    preset = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe")["DIGITS"]
    known = {name: value for name, value in knobs.items() if name in preset}
    words = []
    for field, value in (preset | known | settings).items():
        words += [f"--{field.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    command = [sys.executable, str(RECIPES / f"{name}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def epochs(run: Path) -> list[dict]:
    """A run's records, one an epoch."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "epoch"]


def curve(run: Path) -> list[dict]:
    """What is drawn of a run, epoch by epoch; k-NN is the teacher's where there is one."""
    return [
        {name: r[name] for name in ("epoch", "train_loss", "train_feature_std", "val_top1") if name in r}
        | {"knn20": r.get("teacher_knn20", r.get("val_knn20"))}
        for r in epochs(run)
    ]


def worth(method: str, run: Path | str, trunk: str, args: argparse.Namespace) -> dict:
    """{"knn20", "probe"} of a trunk."""
    about = {"data": args.data, "val": args.val, "model": trunk, "weights": run, "crop_pct": 1.0}
    about |= {"pos_embed": "sincos"} if method in SINES else {}
    about |= {"global_pool": "avg"} if method == "mae" else {}
    about |= {"which": "teacher"} if method in TEACHES else {}
    shown = recipe("knn", about | {"k": 20}, args.knobs)
    found = {"knn20": float(re.findall(r"\b20\b\D+([\d.]+)%", shown)[-1]) / 100}
    out = args.runs / f"probe-{method}-{trunk}"
    recipe("linear_probe", about | {"out": out, "epochs": args.probe_epochs, "standardise": True}, args.knobs)
    return found | {"probe": epochs(out)[-1]["val_top1"]}


def row(kind: tuple[str, str], args: argparse.Namespace) -> dict:
    """One line of the results file."""
    method, trunk = kind
    found = {"method": method, "trunk": trunk, "knobs": args.knobs, "standardised": True, "hardware": hardware("cpu")}
    run: Path | str = ""
    if method != "random":
        run = args.runs / f"{method}-{trunk}"
        about = {"data": args.data, "val": args.val, "out": run}
        if method == "supervised":
            recipe(SUPERVISED[trunk], about | {"size": "micro"}, args.knobs)
        else:
            recipe(f"pretrain_{method}", about | {"trunk": trunk}, args.knobs)
        record, found["curve"] = epochs(run)[-1], curve(run)
        found |= {name: record.get(name) for name in ("epoch", "images", "train_loss", "train_feature_std", "seconds")}
    return found | worth(method, run, trunk, args)


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="training shards")
    parser.add_argument("--val", default="", help="validation shards")
    parser.add_argument("--methods", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--trunks", nargs="+", choices=SUPERVISED, default=list(SUPERVISED))
    parser.add_argument("--knobs", nargs="+", type=pair, default=[], metavar="FIELD=VALUE", help="of the recipes")
    parser.add_argument("--probe-epochs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=Path("pretraining.jsonl"), help="append a JSON line a row")
    args = parser.parse_args()
    args.knobs = dict(args.knobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        for found in pool.map(lambda kind: row(kind, args), product(args.methods, args.trunks)):
            worth = f"k-NN {found['knn20']:.2%}  probe {found['probe']:.2%}"
            print(f"{found['method']:10} {found['trunk']:12} {worth}", flush=True)
            with args.out.open("a") as file:
                file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
