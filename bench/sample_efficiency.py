"""ConViT against DeiT on few images: d'Ascoli et al. 2021, figure 1, on data of one's own.

    python bench/sample_efficiency.py --data 'shards/train-*.tar' --val 'shards/val-*.tar' --out few.jsonl
    python bench/sample_efficiency.py --plot few.jsonl few.png      # again from the file, without training

Both see the same number of images at every share, as in the paper: fewer images, more epochs. They have the same
width, depth, heads, augmentation, schedule and seeds; only the local layers differ.
"""

import argparse
import json
import statistics
import time
from contextlib import closing
from itertools import product
from pathlib import Path

import torch
from measure import hardware  # bench/measure.py: a script's own folder is on its path

from blocks import Model, convit, key, vit
from blocks.data import EvalLoader, EvalTransform, TrainLoader, TrainTransform, open_shards
from blocks.data.index.index import Index
from blocks.data.subset import balanced_share
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import scaled_lr, warmup_cosine
from blocks.train.distributed import Processes, connect
from blocks.train.evaluate import evaluate
from blocks.train.step import init_state, make_step

MODELS = ("convit", "deit")
ABOUT = (  # what a line of the results file says of its run
    *("width", "depth", "heads", "img_size", "patch_size", "global_pool", "drop_path"),
    *("scale", "steps", "batch_size", "lr", "precision"),
)


def model_of(kind: str, args: argparse.Namespace, num_classes: int) -> Model:
    """The ConViT, all layers local but the last two, as in the paper, or the DeiT of the same size.

    With one plain layer the class token sees the image in a single layer, and the ConViT is no better than the DeiT.
    """
    knobs = {
        "img_size": args.img_size,
        "patch_size": args.patch_size,
        "embed_dim": args.width,
        "depth": args.depth,
        "num_heads": args.heads,
        "num_classes": num_classes,
        "drop_path_rate": args.drop_path,
    }
    if args.global_pool == "avg":  # the mean of patches, and no class token that ConViT's would join late
        knobs |= {"class_token": False, "global_pool": "avg"}
    if kind == "deit":
        return vit(**knobs)
    return convit(**knobs, qkv_bias=True, local_up_to_layer=args.depth - 2)


def train(kind: str, index: Index, val: Index, seed: int, args: argparse.Namespace, processes: Processes) -> dict:
    """One run: validation accuracy after `args.steps` steps, the training loss of the last tenth, and seconds."""
    objective = Supervised(model_of(kind, args, val.num_classes), label_smoothing=0.1)
    peak = scaled_lr(args.lr, args.batch_size, per=512)
    optimizer = adamw(warmup_cosine(peak, args.steps // 20, args.steps), weight_decay=0.05)
    loaders = {"num_classes": val.num_classes, "num_workers": args.workers, "device": processes.device}
    transform = TrainTransform(args.img_size, scale=tuple(args.scale))
    train_data = TrainLoader(index, batch_size=args.batch_size, transform=transform, seed=seed, **loaders)
    val_data = EvalLoader(val, batch_size=256, transform=EvalTransform(args.img_size, 1.0), **loaders)
    step = make_step(objective, optimizer, clip_norm=1.0, precision=args.precision, donate=True)
    state, start = init_state(objective, optimizer, key(seed, processes.device)), time.monotonic()
    losses = torch.zeros(args.steps, device=processes.device)  # in one piece: scalars would leave holes in the heap
    with closing(train_data.batches()) as batches, closing(val_data):
        for number in range(args.steps):
            state, metrics = step(state, next(batches))
            losses[number] = metrics["loss"]
        found = evaluate(objective.model, state.params, val_data, processes, precision=args.precision)
    tail = losses[-max(1, args.steps // 10) :].mean().item()
    return {"top1": found["top1"], "train_loss": tail, "seconds": time.monotonic() - start}


def row(kind: str, share: float, seed: int, args: argparse.Namespace, processes: Processes) -> dict:
    """One line of the results file."""
    index, val = open_shards(args.data), open_shards(args.val)
    part = balanced_share(index, share, seed)
    found = train(kind, part, val, seed, args, processes)
    about = {name: getattr(args, name) for name in ABOUT}
    return {"model": kind, "share": share, "seed": seed, "images": len(part), **found, **about}


def table(rows: list[dict]) -> list[tuple[float, dict[str, float], int]]:
    """(share, {model: mean top-1}, seeds), by share."""
    lines = []
    for share in sorted({r["share"] for r in rows}):
        of = {k: [r["top1"] for r in rows if r["share"] == share and r["model"] == k] for k in MODELS}
        of = {kind: found for kind, found in of.items() if found}
        lines.append((share, {k: statistics.fmean(v) for k, v in of.items()}, min(map(len, of.values()))))
    return lines


def plot(rows: list[dict], path: Path) -> None:
    """Accuracy over the share of images, one line a model, one dot a run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for kind, colour, label in (("convit", "tab:red", "ConViT"), ("deit", "tab:blue", "DeiT")):
        mean = [(100 * share, 100 * means[kind]) for share, means, _ in table(rows) if kind in means]
        axes.plot(*zip(*mean, strict=True), color=colour, label=label)
        dots = [(100 * r["share"], 100 * r["top1"]) for r in rows if r["model"] == kind]
        axes.scatter(*zip(*dots, strict=True), color=colour, s=12)
    axes.set(xscale="log", xlabel="share of the training images, %", ylabel="validation top-1, %")
    ticks = sorted({100 * r["share"] for r in rows})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def show(rows: list[dict]) -> None:
    for share, means, seeds in table(rows):
        print(f"{100 * share:5g} %  " + "  ".join(f"{k} {100 * v:.2f} %" for k, v in means.items()) + f"  n {seeds}")


def measure(args: argparse.Namespace) -> list[dict]:
    """All runs, each written to the file as soon as it is done."""
    rows = []
    with connect(data_workers=args.workers) as processes:
        for seed, share, kind in product(args.seeds, args.shares, args.models):
            rows.append({**row(kind, share, seed, args, processes), "hardware": hardware(processes.device)})
            print(f"{kind:7} {100 * share:5g} % seed {seed}: {100 * rows[-1]['top1']:.2f} %", flush=True)
            with args.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="training shards")
    parser.add_argument("--val", help="validation shards")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05, 0.1, 0.3, 1.0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    for name, value in {"width": 192, "depth": 12, "heads": 4, "img-size": 32, "patch-size": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--global-pool", default="token", choices=["token", "avg"], help="avg: without class token")
    parser.add_argument("--steps", type=int, default=20_000, help="of every run, whatever its share")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3, help="per 512 images")
    parser.add_argument("--drop-path", type=float, default=0.1)
    parser.add_argument("--scale", nargs=2, type=float, default=(0.35, 1.0), help="area of the random crop")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("few.jsonl"), help="append a JSON line a run")
    parser.add_argument("--plot", nargs=2, type=Path, metavar=("JSONL", "PNG"), help="draw a finished file")
    args = parser.parse_args()
    if args.plot:
        rows = [json.loads(line) for line in args.plot[0].read_text().splitlines()]
        plot(rows, args.plot[1])
    elif args.data and args.val:
        rows = measure(args)
    else:
        parser.error("--data and --val name the shards to train and to evaluate on")
    show(rows)


if __name__ == "__main__":
    main()
