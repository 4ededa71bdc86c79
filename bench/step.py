"""A whole training step, ours against an nn.Module with torch.optim.AdamW(fused=True), side by side in one process.

    python bench/step.py                          # tiny and ViT-S on the CPU
    python bench/step.py --models tiny --rounds 100 --out step.jsonl

All start from the same weights and see the same images, and the first three losses must agree. Ours is the pure
step on a donated state: it takes the gradient's norm and skips what is not finite. "module" does neither; "same work"
is the module with torch.nn.utils.get_total_norm and a look at norm and loss before the update.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from measure import hardware, interleaved, ratio  # bench/measure.py: a script's own folder is on its path
from torch.nn.utils import get_total_norm

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.random import key
from blocks.train.heap import keep_heap
from blocks.train.step import init_state, make_step
from blocks.trunks.vit import vit

LR, WEIGHT_DECAY = 1e-3, 0.05
MODELS = {
    "tiny": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 6, "num_heads": 2, "num_classes": 10},
    "vit_small": {
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 384,
        "depth": 12,
        "num_heads": 6,
        "num_classes": 1000,
    },
}
BATCH = {"tiny": 8, "vit_small": 4}


def batch_of(knobs: dict, size: int, device: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, knobs["img_size"], knobs["img_size"], generator=generator)
    labels = torch.randint(knobs["num_classes"], (size,), generator=generator)
    return {"images": images.to(device), "labels": labels.to(device)}


def theirs(model: torch.nn.Module, batch: dict, precision: str, checked: bool = False) -> Callable[[], torch.Tensor]:
    """One call is one step of the module; returns its loss. Checked, it skips what is not finite."""
    decay = [p for n, p in model.named_parameters() if p.ndim > 1 and n not in ("cls_token", "pos_embed")]
    others = [p for n, p in model.named_parameters() if p.ndim <= 1 or n in ("cls_token", "pos_embed")]
    groups = [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, fused=True)
    images, labels = batch["images"], batch["labels"]

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if checked and not (get_total_norm([p.grad for p in model.parameters()]) + loss).isfinite():
            return loss.detach()
        optimizer.step()
        return loss.detach()

    return step


def ours(model: torch.nn.Module, knobs: dict, batch: dict, precision: str) -> Callable[[], torch.Tensor]:
    """One call is one pure step on the donated state; returns its loss."""
    objective, optimizer = Supervised(vit(**knobs)), adamw(LR, weight_decay=WEIGHT_DECAY)
    device = batch["images"].device
    state = init_state(objective, optimizer, key(0, device))
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state.params.update(tree.like(state.params, weights))
    step = make_step(objective, optimizer, precision=precision, donate=True)

    def call() -> torch.Tensor:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics["loss"]

    return call


def measure(name: str, args: argparse.Namespace) -> dict:
    """One row of the table."""
    knobs = MODELS[name]
    batch = batch_of(knobs, args.batch_size or BATCH[name], args.device)
    torch.manual_seed(0)
    module = timm.models.vision_transformer.VisionTransformer(**knobs).to(args.device)
    steps = {
        "ours": ours(module, knobs, batch, args.precision),
        "same work": theirs(deepcopy(module), batch, args.precision, checked=True),
        "module": theirs(module, batch, args.precision),
    }
    losses = [[float(step()) for step in steps.values()] for _ in range(3)]
    tolerance = 1e-4 if args.precision == "float32" else 3e-2
    if any(abs(a - b) > tolerance * abs(b) for a, _, b in losses):
        raise SystemExit(f"{name}: the two do not compute the same; losses (ours, same work, module): {losses}")
    for step in steps.values():  # warm
        step()
    times = interleaved(steps, args.rounds)
    speeds = {f"{kind} / ours": ratio(times[kind], times["ours"]) for kind in ("module", "same work")}
    medians = {f"{kind} ms": 1e3 * statistics.median(values) for kind, values in times.items()}
    return {"model": name, "batch": len(batch["images"]), **medians, **speeds}


def others(row: dict) -> str:
    """What the table says of the module and of the module with the same work."""
    speeds = {kind: row[f"{kind} / ours"] for kind in ("module", "same work")}
    return "; ".join(
        f"{k} {row[f'{k} ms']:.2f} ms: {s:.2f} ({low:.2f} to {high:.2f})" for k, (s, low, high) in speeds.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch-size", type=int, help="instead of each model's own")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--out", type=Path, help="append a JSON line a row")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == "cpu":
        keep_heap()  # as `connect` does for a run; it serves all alike
    where = hardware(args.device)
    print(f"{where}\n{'model':12} batch {'ours':>12}   others: time over ours (quartiles of {args.rounds} rounds)")
    for name in args.models:
        row = measure(name, args)
        print(f"{name:12} {row['batch']:5} {row['ours ms']:9.2f} ms   {others(row)}")
        if args.out:
            line = {"bench": "step", "hardware": where, "n": args.rounds, "precision": args.precision, **row}
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
