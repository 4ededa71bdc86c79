"""Contrastive losses with their gradients, beside lightly's on the same embeddings.

    pip install --target /tmp/lightly --no-deps lightly lightly_utils    # beside, so that it changes no other package
    PYTHONPATH=/tmp/lightly python bench/contrastive.py --threads 2
    PYTHONPATH=/tmp/lightly python bench/contrastive.py --device cuda

"moco" is the loss of 256 queries against a queue of 65,536 keys of 128 numbers and what puts 256 new keys in, "simclr"
the loss of two views of 1,024 images. Both begin with embeddings that are not yet normalised and end with their
gradient. Extra memory is the most that is allocated at once, beyond embeddings and queue.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from measure import hardware, interleaved, peak_bytes, ratio  # bench/measure.py: a script's own folder is on its path
from torch import Tensor
from torch.nn.functional import normalize

from blocks import key, random
from blocks.objectives.queue import enqueue_, new_queue
from blocks.ops.nt_xent import nt_xent
from blocks.ops.queue_nce import queue_nce

Contestants = dict[str, Callable[[], tuple[Tensor, ...]]]
MOCO_TEMPERATURE, SIMCLR_TEMPERATURE = 0.2, 0.1


def moco(args: argparse.Namespace) -> Contestants:
    """One call makes loss and gradient, and puts the keys in: (loss, gradient [B, E])."""
    q, k = (random.normal(key(seed), (args.queries, args.dim)).to(args.device) for seed in range(2))
    queue = new_queue(args.queue, args.dim, q)
    theirs = NTXentLoss(MOCO_TEMPERATURE, memory_bank_size=(args.queue, args.dim)).to(args.device)
    theirs.memory_bank.bank.copy_(queue["keys"])
    q.requires_grad_()

    def ours() -> tuple[Tensor, ...]:
        own = normalize(k, dim=1)
        loss = queue_nce(normalize(q, dim=1), own, queue["keys"], MOCO_TEMPERATURE).mean()
        enqueue_(queue, own)
        return loss, *torch.autograd.grad(loss, q)

    def lightly() -> tuple[Tensor, ...]:
        loss = theirs(q, k)
        return loss, *torch.autograd.grad(loss, q)

    return {"ours": ours, "lightly": lightly}


def simclr(args: argparse.Namespace) -> Contestants:
    """One call makes loss and gradients: (loss, gradient of the first view [N, E], of the second)."""
    views = [random.normal(key(seed), (args.images, args.dim)).to(args.device).requires_grad_() for seed in range(2)]
    theirs = NTXentLoss(SIMCLR_TEMPERATURE)

    def ours() -> tuple[Tensor, ...]:
        loss = nt_xent(normalize(torch.stack(views), dim=-1), SIMCLR_TEMPERATURE)
        return loss, *torch.autograd.grad(loss, views)

    def lightly() -> tuple[Tensor, ...]:
        loss = theirs(*views)
        return loss, *torch.autograd.grad(loss, views)

    return {"ours": ours, "lightly": lightly}


def agree(contestants: Contestants) -> None:
    """Both do the same work."""
    for ours, theirs in zip(*(contestants[kind]() for kind in ("ours", "lightly")), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.detach().abs().max()))


def measure(name: str, contestants: Contestants, args: argparse.Namespace) -> dict:
    """One row of the table."""
    agree(contestants)
    seconds = interleaved(contestants, args.rounds)
    memory = {kind: peak_bytes(f, args.device) / 1e6 for kind, f in contestants.items()}
    return {
        "bench": "contrastive",
        "row": name,
        "sizes": {"queries": args.queries, "queue": args.queue, "images": args.images, "dim": args.dim},
        "rounds": args.rounds,
        "device": args.device,
        "milliseconds": {kind: 1e3 * statistics.median(s) for kind, s in seconds.items()},
        "lightly_over_ours": ratio(seconds["lightly"], seconds["ours"]),
        "extra_megabytes": memory,
        "hardware": hardware(args.device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--queue", type=int, default=65_536)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--out", type=Path, help="append a JSON line a row")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(hardware(args.device))
    for name, make in {"moco": moco, "simclr": simclr}.items():
        row = measure(name, make(args), args)
        memory = row["extra_megabytes"]
        times = "   ".join(f"{k} {v:.1f} ms, {memory[k]:.1f} MB" for k, v in row["milliseconds"].items())
        print(f"{name:7} {times}   " + "lightly/ours {:.2f} ({:.2f} to {:.2f})".format(*row["lightly_over_ours"]))
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
