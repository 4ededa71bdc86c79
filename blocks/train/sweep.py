"""Many runs of a small model side by side, learning rates, weight decays or seeds: which one learns best?"""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks import random, tree
from blocks.checks import is_whole
from blocks.optim.clip import Clip
from blocks.optim.optimizer import Optimizer
from blocks.train.batch_gradient import Metrics
from blocks.train.distributed import Processes
from blocks.train.evaluate import evaluate_all
from blocks.train.progress import Screen
from blocks.train.state import State
from blocks.train.sweep_step import init_sweep, make_sweep_step, run_of


@attrs.frozen(eq=False)
class Sweep:
    """What K runs came to. `state` is their states stacked (`run_of` takes one out); `curves` are means over each
    epoch's steps, {"loss": [epochs, K], ...} in float64 on the CPU, NaN where a step was not finite; `scores` holds
    each run's {"top1", "loss", ...} on the validation data, [] without such data.
    """

    state: State
    curves: dict[str, Tensor]
    scores: list[dict[str, float]]


def sweep(
    objective: Any,
    optimizers: Sequence[Optimizer],
    train_data: Any,
    val_data: Any = None,
    *,
    epochs: int,
    processes: Processes,
    seeds: Sequence[int] | int = 0,
    clip: Clip | None = None,
    clip_norm: float | None = None,
    quiet: bool = False,
) -> Sweep:
    """Train a run for each optimizer, from its own seed or one for all; run k is what `run` would make of them.

    Seeds decide the first params and what is dropped; the batches are `train_data`'s, the same for all runs. No
    checkpoints. Raises ValueError where optimizers, seeds, epochs and processes do not fit together.
    """
    _check(epochs, processes.world_size, objective, val_data)
    seeds = [seeds] * len(optimizers) if isinstance(seeds, int) else seeds
    state = init_sweep(objective, optimizers, [random.key(seed, processes.device) for seed in seeds])
    step = make_sweep_step(objective, optimizers, clip=clip, clip_norm=clip_norm, donate=True)
    steps, means = train_data.steps_per_epoch, []
    with Screen(steps_per_epoch=steps, epochs=epochs, quiet=quiet) as screen, closing(train_data.batches()) as batches:
        screen.begin(0)
        for epoch in range(epochs):
            rows = []
            for number in range(epoch * steps, (epoch + 1) * steps):
                state, metrics = step(state, next(batches))
                rows.append(metrics)
                screen.step(number + 1, {})
            means.append(_means(rows))
            screen.say(f"epoch {epoch + 1:>3}  {_line(means[-1]['loss'])}")
    curves = {name: torch.stack([row[name] for row in means]) for name in means[0]}
    return Sweep(state, curves, [] if val_data is None else _scores(objective.model, state.params, val_data, processes))


def _check(epochs: int, world_size: int, objective: Any, val_data: Any) -> None:
    if not is_whole(epochs, 1):
        raise ValueError(f"epochs {epochs!r} is not a count; use a whole number, 1 or more")
    if world_size > 1:
        raise ValueError(
            f"a sweep runs in one process, not in {world_size}; use torchrun --nproc-per-node 1, or python"
        )
    if val_data is not None and not hasattr(objective, "model"):
        raise ValueError(f"{type(objective).__name__} has no `model` to evaluate on val_data; leave val_data out")


def _means(rows: Sequence[Metrics]) -> dict[str, Tensor]:
    """Means over an epoch's steps: [K] each."""
    names = [name for name in rows[0] if name != "skipped"]
    return {name: torch.stack([row[name] for row in rows]).double().mean(0).cpu() for name in names}


def _line(loss: Tensor) -> str:
    """The best and the worst of the losses [K] that are finite."""
    finite = loss.isfinite()
    if not finite.any():
        return f"loss not finite in any of {len(loss)} runs"
    best, worst = (int(torch.where(finite, sign * loss, torch.inf).argmin()) for sign in (1, -1))
    lost = f"; not finite in {int((~finite).sum())}" if not finite.all() else ""
    return f"loss {loss[best]:.4f} (run {best}) to {loss[worst]:.4f} (run {worst}){lost}"


def _scores(model: Any, params: tree.Tree, val_data: Any, processes: Processes) -> list[dict[str, float]]:
    """Each run's accuracy and loss, of data that is read once."""
    runs = [run_of(params, run) for run in range(len(tree.leaves(params)[0]))]
    return evaluate_all(model, runs, val_data, processes)
