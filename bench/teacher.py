"""The teacher's update, against what the memory can give and beside lightly's.

    pip install --target /tmp/lightly --no-deps 'lightly>=1.6' lightly_utils    # beside: it changes no other package
    PYTHONPATH=/tmp/lightly python bench/teacher.py --threads 1
    PYTHONPATH=/tmp/lightly python bench/teacher.py --device cuda

One call moves the teacher of a ViT by its student, momentum scheduled, and leaves it where the step is skipped, as in
training. "memory" is one addition of two vectors as long, in place, which reads and writes as many bytes.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from lightly.models.utils import update_momentum
from measure import hardware, interleaved, on_device, ratio  # bench/measure.py: a script's own folder is on its path
from torch import nn

import blocks
from blocks import tree
from blocks.objectives.teacher import follow_
from blocks.optim.schedule import cosine

SIZES = {"tiny": blocks.vit_tiny, "small": blocks.vit_small, "base": blocks.vit_base}
MOMENTUM = 0.996


class Leaves(nn.Module):
    """A module of some tensors, and of nothing else."""

    def __init__(self, params: tree.Tree):
        super().__init__()
        self.leaves = nn.ParameterList(tree.leaves(params))


def side_by_side(params: tree.Tree) -> tuple[torch.Tensor, tree.Tree]:
    """Params as one vector and as views of it: what moves either moves the same bytes."""
    leaves = tree.leaves(params)
    whole = torch.cat([leaf.flatten() for leaf in leaves])
    parts = whole.split([leaf.numel() for leaf in leaves])
    views = [part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return whole, tree.rebuild(params, iter(views))


def contestants(size: str, device: str) -> dict[str, Callable[[], object]]:
    """One call of each is one update of the same bytes."""
    model = SIZES[size](num_classes=0)
    (vector, params), (slow, teacher) = (side_by_side(model.init(blocks.key(seed, device))) for seed in range(2))
    memory = {"teacher": teacher, "step": torch.zeros((), dtype=torch.int64, device=device)}
    momentum, skip = cosine(MOMENTUM, 1.0, 1000), torch.zeros((), dtype=torch.bool, device=device)
    their_student, their_teacher = Leaves(params), Leaves(teacher)
    found = {
        "ours": lambda: follow_(memory, params, momentum, skip),
        "lightly": lambda: update_momentum(their_student, their_teacher, MOMENTUM),
        "memory": lambda: slow.add_(vector, alpha=0.0),
    }
    agree(found, slow)
    return found


def agree(found: dict[str, Callable[[], object]], teacher: torch.Tensor) -> None:
    """Both move the teacher alike."""
    before, after = teacher.clone(), []
    for kind in ("ours", "lightly"):
        found[kind]()
        after.append(teacher.clone())
        teacher.copy_(before)
    torch.testing.assert_close(*after)


def measure(size: str, args: argparse.Namespace) -> dict:
    """One row of the table."""
    seconds = interleaved(contestants(size, args.device), args.rounds, on_device if args.device == "cuda" else None)
    return {
        "bench": "teacher",
        "row": size,
        "rounds": args.rounds,
        "device": args.device,
        "milliseconds": {kind: 1e3 * statistics.median(s) for kind, s in seconds.items()},
        "lightly_over_ours": ratio(seconds["lightly"], seconds["ours"]),
        "share_of_bandwidth": ratio(seconds["memory"], seconds["ours"]),
        "hardware": hardware(args.device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--out", type=Path, help="append a JSON line a row")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(hardware(args.device))
    for size in args.sizes:
        row = measure(size, args)
        times = "   ".join(f"{kind} {value:.2f} ms" for kind, value in row["milliseconds"].items())
        shares = "lightly/ours {:.2f} ({:.2f} to {:.2f})   bandwidth {:.2f} ({:.2f} to {:.2f})"
        print(f"{size:6} {times}   " + shares.format(*row["lightly_over_ours"], *row["share_of_bandwidth"]))
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
