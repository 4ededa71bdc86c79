"""ConViT's own figures: how much heads look by position, and how that changed in training (d'Ascoli et al. 2021)."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from blocks.pictures.figures.kernels import kernels_figure
from blocks.pictures.figures.over_training import gates_figure, nonlocality_figure
from blocks.pictures.locality import gated_layers, gates, position_kernels
from blocks.report.inside import trunk_of
from blocks.report.material import Material
from blocks.report.parts import Absent, Drawing, Part

UNKEPT = "the run wrote no attention.jsonl, the course of its gates"


def is_gated(material: Material) -> bool:
    """Whether the trunk has GPSA layers."""
    return hasattr(trunk_of(material), "blocks") and bool(gated_layers(material.params))


def gates_over_training(material: Material) -> Iterable[Part]:
    """The gates epoch by epoch."""
    records = [record for record in material.run.attention if record.get("gates")]
    if not records:
        raise Absent(UNKEPT)
    first, last = (_mean(record["gates"]) for record in (records[0], records[-1]))
    sentence = (
        f"A gate of 1 looks by position alone, one of 0 by content alone. Their mean over all heads was {first:.2f} at "
        f"epoch {_epoch(records[0])} and is {last:.2f} at epoch {_epoch(records[-1])}."
    )
    yield Drawing("gates", "Gates over training", partial(gates_figure, records), sentence)


def nonlocality_over_training(material: Material) -> Iterable[Part]:
    """How far layers look, epoch by epoch."""
    records = [record for record in material.run.attention if record.get("nonlocality")]
    if not records:
        raise Absent(UNKEPT)
    first, last = (sum(record["nonlocality"]) / len(record["nonlocality"]) for record in (records[0], records[-1]))
    sentence = (
        "The mean distance from a patch to those it attends to, by layer, on the images that the run looked at in "
        f"training. Over all layers it was {first:.2f} patches at epoch {_epoch(records[0])} and is {last:.2f} at "
        f"epoch {_epoch(records[-1])}."
    )
    yield Drawing("nonlocality", "Non-locality over training", partial(nonlocality_figure, records), sentence)


def kernels_before(material: Material) -> Iterable[Part]:
    """Attention by position as it started."""
    sentence = "Which patches a patch, framed in the middle, looks at by position alone, before training."
    yield _kernels(material, material.fresh_params, "kernels-before", "Positional attention before training", sentence)


def kernels_after(material: Material) -> Iterable[Part]:
    """Attention by position as it became."""
    sentence = "The same after training; below each kernel its largest weight, and its gate: how much it counts."
    yield _kernels(material, material.params, "kernels-after", "Positional attention after training", sentence)


def _kernels(material: Material, params: Any, name: str, title: str, sentence: str) -> Drawing:
    grid = trunk_of(material).grid(material.images.of([0])[0])
    found = position_kernels(material.model, params, grid)
    draw = partial(kernels_figure, found.cpu(), list(map(int, gated_layers(params))), gates(params).cpu())
    return Drawing(name, title, draw, sentence)


def _mean(gates: list[list[float]]) -> float:
    every = [gate for layer in gates for gate in layer]
    return sum(every) / len(every)


def _epoch(record: Mapping[str, Any]) -> str:
    return f"{record['epoch']:g}"
