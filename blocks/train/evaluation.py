"""What a run evaluates after an epoch: whose params, by which function, and the numbers of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from blocks import tree
from blocks.train.distributed import Processes
from blocks.train.evaluate import check_apart, evaluate
from blocks.train.state import State

Evaluation = Callable[[tree.Tree], Mapping[str, float]]


def own_accuracy(
    objective: Any, val_data: Any, processes: Processes, precision: str, params: tree.Tree | None
) -> Evaluation | None:
    """The evaluation of an objective with a model that classifies, from these params on; None without data."""
    if val_data is None:
        return None
    if not getattr(getattr(val_data, "index", val_data), "labelled", True):
        raise ValueError("val_data has no labels for an accuracy; give evaluate=..., or labelled images")
    if not hasattr(objective, "model") or hasattr(objective, "outcome"):
        raise ValueError(f"{type(objective).__name__} has no `model` that classifies val_data; give evaluate=...")
    check_apart(objective.model, params or {}, processes.world_size)
    return lambda params: evaluate(objective.model, params, val_data, processes, precision=precision)


def seen_by(val_data: Any, evaluation: Evaluation | None) -> Any:
    """The loader of evaluation images, the evaluation's own where it has one; None for none."""
    return val_data if val_data is not None else getattr(evaluation, "val_data", None)


def subjects_of(objective: Any, state: State) -> dict[str, tree.Tree]:
    """What is evaluated, by name: the params, their average where there is one, what the objective names in memory."""
    subjects = {"val": state.params} | ({"ema": state.ema} if tree.leaves(state.ema) else {})
    return subjects | (objective.evaluated(state.memory) if hasattr(objective, "evaluated") else {})


def scores_of(evaluation: Evaluation | None, subjects: Mapping[str, tree.Tree]) -> tuple[dict[str, float], float]:
    """({"val_top1", ..., "ema_top1", ...}, seconds) of all subjects."""
    began = time.monotonic()
    scores = {subject: evaluation(params) for subject, params in subjects.items()} if evaluation else {}
    found = {f"{subject}_{name}": _number(name, v) for subject, row in scores.items() for name, v in row.items()}
    return found, time.monotonic() - began


def _number(name: str, value: Any) -> float:
    """The value of a metric, of a tensor or numpy's too. Raises TypeError for no number."""
    try:
        return value if isinstance(value, int | float) else float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"evaluate gave {name} {value!r}, no number") from None
