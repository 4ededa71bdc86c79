"""Sinkhorn, and SwAV's loss with its gradient (2 + 6 crops), beside lightly's on the same scores.

    pip install --target /tmp/lightly --no-deps lightly lightly_utils    # beside, so that it changes no other package
    PYTHONPATH=/tmp/lightly python bench/clustering.py --threads 1
    PYTHONPATH=/tmp/lightly python bench/clustering.py --device cuda

"sinkhorn" makes codes of 256 samples for 3,000 prototypes in 3 iterations; "swav" two such codes and the loss of 14
pairs. Scores are cosines, which ours is told, as in the objective ("any range": it is not); the loss goes down to the
scores' gradient. Extra memory is the most that is allocated at once, beyond the scores.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from lightly.loss.swav_loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as their_sinkhorn
from measure import hardware, interleaved, peak_bytes, ratio  # bench/measure.py: a script's own folder is on its path
from torch import Tensor
from torch.nn.functional import normalize

from blocks import key, random
from blocks.ops.cross_view import cross_view
from blocks.ops.sinkhorn import sinkhorn

LARGE, SMALL, WIDTH = 2, 6, 128
TEMPERATURE, EPSILON, ITERATIONS = 0.1, 0.05, 3


def scores_of(args: argparse.Namespace) -> Tensor:
    """Cosines of embeddings and prototypes: [V, B, K]."""
    z = normalize(random.normal(key(0), (LARGE + SMALL, args.batch, WIDTH)), dim=-1)
    prototypes = normalize(random.normal(key(1), (args.prototypes, WIDTH)), dim=-1)
    return (z @ prototypes.T).to(args.device)


def codes_of(scores: Tensor, bound: float | None) -> dict[str, Callable[[], Tensor]]:
    """One call makes the codes of the first view."""
    view = scores[0].clone()
    return {
        "ours": lambda: sinkhorn(view, EPSILON, ITERATIONS, bound=bound),
        "lightly": lambda: their_sinkhorn(view, ITERATIONS, EPSILON),
    }


def losses_of(scores: Tensor) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """One call makes loss and gradient: (loss, gradient [V, B, K])."""
    whole = scores.clone().requires_grad_()
    views = [view.clone().requires_grad_() for view in scores]
    theirs = SwaVLoss(TEMPERATURE, ITERATIONS, EPSILON).to(scores.device)

    def our_loss() -> tuple[Tensor, ...]:
        loss = cross_view(whole, sinkhorn(whole.detach()[:LARGE], EPSILON, ITERATIONS, bound=1.0), TEMPERATURE)
        return loss, *torch.autograd.grad(loss, whole)

    def their_loss() -> tuple[Tensor, ...]:
        loss = theirs(views[:LARGE], views[LARGE:])
        return loss, *torch.autograd.grad(loss, views)

    return {"ours": our_loss, "lightly": their_loss}


def agree(contestants: dict[str, Callable]) -> None:
    """Both do the same work."""
    ours, theirs = contestants["ours"](), contestants["lightly"]()
    if isinstance(ours, tuple):
        theirs = theirs[0].squeeze(), torch.stack(theirs[1:])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)


def measure(name: str, contestants: dict[str, Callable], args: argparse.Namespace) -> dict:
    """One row of the table."""
    agree(contestants)
    seconds = interleaved(contestants, args.rounds)
    return {
        "bench": "clustering",
        "row": name,
        "batch": args.batch,
        "prototypes": args.prototypes,
        "rounds": args.rounds,
        "device": args.device,
        "milliseconds": {kind: 1e3 * statistics.median(s) for kind, s in seconds.items()},
        "lightly_over_ours": ratio(seconds["lightly"], seconds["ours"]),
        "extra_megabytes": {kind: peak_bytes(f, args.device) / 1e6 for kind, f in contestants.items()},
        "hardware": hardware(args.device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--prototypes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--out", type=Path, help="append a JSON line a row")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    scores = scores_of(args)
    print(hardware(args.device))
    table = {"sinkhorn": codes_of(scores, 1.0), "any range": codes_of(scores, None), "swav": losses_of(scores)}
    for name, contestants in table.items():
        row = measure(name, contestants, args)
        times = "   ".join(
            f"{k} {v:.2f} ms, {row['extra_megabytes'][k]:.1f} MB" for k, v in row["milliseconds"].items()
        )
        print(f"{name:9} {times}   " + "lightly/ours {:.2f} ({:.2f} to {:.2f})".format(*row["lightly_over_ours"]))
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
