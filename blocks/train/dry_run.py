"""What a run would be, told without training: its model, optimizer, data, memory and time. Nothing is written."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import attrs
import torch
from rich.table import Table
from torch import Tensor

from blocks import tree
from blocks.optim.optimizer import Optimizer
from blocks.runs import checkpoint, folder
from blocks.train import counting, timing
from blocks.train.batch_gradient import Batch
from blocks.train.counting import Cost
from blocks.train.distributed import Processes
from blocks.train.faces import outcome_of
from blocks.train.freeze import trainable
from blocks.train.precision import cast_inputs, compute_dtype
from blocks.train.progress import Screen, duration
from blocks.train.state import State
from blocks.train.step import Step
from blocks.train.timing import Timing

SHOWN = 4  # names of params that a group lists
POINTS = 201  # at which a schedule is looked at


@attrs.frozen(eq=False)
class Planned:
    """A run that is not to take place: what `run` was given, and the step and state it made of that."""

    objective: Any
    optimizer: Optimizer
    step: Step
    state: State
    train_data: Any
    val_data: Any
    processes: Processes
    out: str
    epochs: int
    accumulate: int
    precision: str
    frozen: tuple[str, ...]

    @property
    def trained(self) -> dict[str, Tensor]:
        """The params that get a gradient, by name."""
        return trainable(tree.flatten(self.state.params), self.frozen)


def dry_run(planned: Planned, screen: Screen) -> State:
    """Tell all of it, the model first, as it takes no time; the state is that after the steps that were timed."""
    screen.say(f"a dry run: nothing is trained, nothing is written. {_found(planned.out)}")
    batch, first, next_one = _batches(planned.train_data)
    if hasattr(planned.objective, "model"):
        screen.show(model_table(planned, batch))
    steps = planned.epochs * planned.train_data.steps_per_epoch
    screen.show(groups_table(planned.optimizer, planned.trained, steps))
    screen.table(data_rows(planned, batch, first, next_one), title="the data")
    cost = step_cost(planned, batch, screen.say)
    screen.table(memory_rows(planned, batch, cost), title="memory of a process")
    state, found = _timed(planned, batch, cost, screen.say)
    if found:
        screen.table(time_rows(planned, found, cost, next_one), title="time")
    return state


def _found(out: str) -> str:
    """What the run's folder holds already."""
    newest = checkpoint.latest(out)
    if newest is not None:
        return f"The run in {out} would go on from {newest.name}; with --no-resume it would be refused"
    return f"{out} holds a run without a checkpoint" if folder.is_run(out) else f"Its folder would be {out}"


def _batches(train_data: Any) -> tuple[Batch, float, float]:
    """(the first batch, the seconds it took, the seconds that the next one took)."""
    with closing(train_data.batches()) as batches:
        began = time.monotonic()
        batch = next(batches)
        there = time.monotonic()
        next(batches)
        return batch, there - began, time.monotonic() - there


def model_table(planned: Planned, batch: Batch) -> Table:
    """Parameters of each layer; FLOPs of its forward pass, and bytes it keeps for the backward pass, of one image."""
    images = batch["images"] if "images" in batch else batch["crops.0"][:, 0]
    dtype = compute_dtype(planned.precision) or torch.float32
    params = tree.cast(planned.state.params, dtype)
    rows = counting.layers(planned.objective.model, params, images.to("meta", dtype))
    size = "x".join(map(str, images.shape[2:]))
    table = Table("layer", title=f"the model, for one image of {size} in {planned.precision}")
    for title in ("parameters", "MFLOPs", "kept"):
        table.add_column(title, justify="right")
    count = len(images)
    for row in rows:
        table.add_row(row.name, f"{row.parameters:,}", f"{row.flops / count / 1e6:,.1f}", _bytes(row.kept / count))
    table.add_section()
    whole = [sum(column) for column in zip(*((r.parameters, r.flops, r.kept) for r in rows), strict=True)]
    table.add_row("all", f"{whole[0]:,}", f"{whole[1] / count / 1e6:,.1f}", _bytes(whole[2] / count))
    return table


def groups_table(optimizer: Optimizer, params: Mapping[str, Tensor], steps: int) -> Table:
    """Which params the optimizer treats alike, and how; its rate over so many steps."""
    groups: dict[str, list[str]] = {}
    describe = getattr(optimizer, "describe", partial(Optimizer.describe, optimizer))  # one's own may not say
    for name, words in describe(dict(params)).items():
        groups.setdefault(words, []).append(name)
    table = Table("what is done", "tensors", "parameters", "which", title=f"the optimizer, {_words(optimizer, steps)}")
    for words, names in groups.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        total = sum(params[name].numel() for name in names)
        table.add_row(words, f"{len(names)}", f"{total:,}", ", ".join(names[:SHOWN]) + more)
    return table


def _words(optimizer: Optimizer, steps: int) -> str:
    """Its kind, and the rate at the start, at its highest, and at the last step."""
    kind, schedule = type(optimizer).__name__, getattr(optimizer, "schedule", None)
    if not callable(schedule):
        return kind
    places = torch.linspace(0, steps - 1, min(steps, POINTS)).round().long().tolist()
    rates = {place: float(schedule(torch.tensor(place))) for place in places}
    peak, last = max(rates, key=rates.__getitem__), places[-1]
    return f"{kind}: rate {rates[0]:.3g} at first, {rates[peak]:.3g} in step {peak + 1}, {rates[last]:.3g} at last"


def data_rows(planned: Planned, batch: Batch, first: float, next_one: float) -> dict[str, str]:
    """What is known of the data, and what a batch holds."""
    data, world_size = planned.train_data, planned.processes.world_size
    rows = {"training": _source(data), "validation": _source(planned.val_data)}
    each = f", {data.batch_size // world_size:,} for each of {world_size} processes" if world_size > 1 else ""
    rows["batch"] = f"{data.batch_size:,} images{each}"
    rows["a process's share"] = "; ".join(f"{name} {list(x.shape)} {_kind(x)}" for name, x in batch.items())
    rows["epoch"] = f"{data.steps_per_epoch:,} steps"
    rows |= {"facts": ", ".join(f"{name} {value}" for name, value in getattr(data, "facts", {}).items())}
    rows["loading"] = f"the first batch took {first:.2f} s, the next {next_one:.2f} s"
    return {name: text for name, text in rows.items() if text}


def _source(loader: Any) -> str:
    index = getattr(loader, "index", None)
    if index is None:
        return ""
    return f"{len(index):,} images " + (f"of {index.num_classes} classes" if index.labelled else "without labels")


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def step_cost(planned: Planned, batch: Batch, say: Callable[[str], None]) -> Cost | None:
    """What the gradient of one micro-batch takes, counted on the meta device; None where that cannot be counted."""
    dtype, count = compute_dtype(planned.precision), len(next(iter(batch.values()))) // planned.accumulate
    part = {name: value[:count].to("meta") for name, value in batch.items()}
    part = cast_inputs(part | {"index": torch.empty(count, dtype=torch.int64, device="meta")}, dtype)
    params, memory = planned.state.params, tree.map(lambda t: t.to("meta"), planned.state.memory)
    params = params if dtype is None else tree.cast(params, dtype)
    key = planned.state.key.to("meta") if getattr(planned.objective, "draws", True) else None

    def loss(own: tree.Tree) -> Tensor:
        return outcome_of(planned.objective.loss(own, memory, part, key))[0]

    try:
        return counting.cost_of(loss, params, planned.trained)
    except (RuntimeError, NotImplementedError) as error:  # what needs numbers, not shapes alone
        say(f"FLOPs and activations of a step are not counted: {str(error).splitlines()[0]}")
        return None


def memory_rows(planned: Planned, batch: Batch, cost: Cost | None) -> dict[str, str]:
    """Bytes by what they are for."""
    state, half = planned.state, compute_dtype(planned.precision)
    gradients = sum(t.nbytes for t in planned.trained.values())
    parts = {"parameters": _size(state.params), "gradients": gradients, "optimizer": _size(state.optimizer)}
    parts |= {"average": _size(state.ema), "the objective's memory": _size(state.memory), "batch": _size(batch)}
    parts[f"parameters in {planned.precision}"] = _size(state.params) // 2 if half else 0
    parts["activations"] = cost.kept if cost else 0
    rows = {name: _bytes(size) for name, size in parts.items() if size}
    if cost:
        rows["activations"] += " (what the backward pass needs, counted without running)"
    beside = "what is short-lived" if cost else "activations, which could not be counted"
    return rows | {"sum": f"{_bytes(sum(parts.values()))}, beside {beside}"}


def _timed(
    planned: Planned, batch: Batch, cost: Cost | None, say: Callable[[str], None]
) -> tuple[State, Timing | None]:
    """The state after a few steps, and how long they took; no timing where a GPU's memory is too small."""
    share = len(next(iter(batch.values())))
    flops = (cost.forward + cost.backward) * planned.accumulate if cost else 0
    images = timing.affordable(share, flops, planned.processes.device, planned.accumulate)
    try:
        return timing.timed(planned.step, planned.state, batch, images, planned.step.warm)
    except torch.OutOfMemoryError as error:
        say(f"a step of {share} images does not fit: {error}; try a smaller batch_size, or a larger accumulate")
        return planned.state, None


def time_rows(planned: Planned, found: Timing, cost: Cost | None, next_one: float) -> dict[str, str]:
    """Seconds of a step, an epoch and the run, and by which measurement."""
    steps, size = planned.train_data.steps_per_epoch, planned.train_data.batch_size
    epoch = found.whole * steps
    rows = {"a step": f"{found.whole:,.3f} s, {size / found.whole:,.3g} images/s", "found": found.how}
    if cost:
        flops = (cost.forward + cost.backward) * planned.accumulate
        rows["arithmetic"] = f"{flops / 1e9:,.1f} GFLOPs a step and process, {flops / found.whole / 1e9:,.1f} GFLOP/s"
    rows["an epoch"] = f"{duration(epoch)}, without evaluation"
    rows["the run"] = f"{duration(epoch * planned.epochs)} for {planned.epochs} epochs"
    if next_one > found.whole:
        rows["loading"] = f"a batch took {next_one:.2f} s: if more workers do not help, that is the pace"
    return rows | ({"peak on the GPU": _bytes(found.peak)} if found.peak else {})


def _size(part: tree.Tree) -> int:
    return sum(leaf.nbytes for leaf in tree.leaves(part))


def _bytes(size: float) -> str:
    """In kB, MB or GB of 1000."""
    unit = 1e9 if size >= 1e9 else 1e6 if size >= 1e6 else 1e3
    return f"{size / unit:,.1f} { {1e9: 'GB', 1e6: 'MB', 1e3: 'kB'}[unit] }"
