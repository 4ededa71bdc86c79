"""What a run was: its settings, its surroundings, its model, as tables."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from blocks import tree
from blocks.report.material import Material
from blocks.report.parts import Absent, Part, Remark, Table, named


def settings(material: Material) -> Iterable[Part]:
    """The command, every setting, and what was changed when the run was resumed."""
    run = material.run
    if run.command:
        yield Table("Start", [("command", shlex.join(run.command))])
    if not run.settings:
        raise Absent("the run was given no settings to keep")
    yield Table("Settings", named(run.settings), folded=True)
    if run.facts:
        yield Table("Batches", named(run.facts), folded=True)
    rows = [(c.get("date"), c.get("step"), "; ".join(c.get("changes", ()))) for c in run.changed]
    if rows:
        yield Table("Resumed with other settings", rows, ("date", "from step", "what changed"))


def environment(material: Material) -> Iterable[Part]:
    """Versions, hardware, date and commit."""
    if not material.run.environment:
        raise Absent("the run wrote no environment.json")
    found = dict(material.run.environment)
    resumed = found.pop("resumed", [])
    yield Table("Environment", named(found), folded=True)
    if resumed:
        rows = [(again.get("date"), again.get("world_size"), again.get("device")) for again in resumed]
        yield Table("Later starts", rows, ("date", "processes", "device"), folded=True)


def parameters(material: Material) -> Iterable[Part]:
    """How many parameters the parts of the model have."""
    counts = {name: tree.count(part) for name, part in _parts(material.params)}
    rows = [*counts.items(), ("all", sum(counts.values()))]
    yield Table("Parameters", rows, ("part", "parameters"), folded=True)


def _parts(params: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The top of the tree; the layers below "blocks" one by one."""
    for name, part in params.items():
        if name == "blocks":
            yield from ((f"blocks.{number}", layer) for number, layer in part.items())
        else:
            yield name, part


def files(material: Material) -> Iterable[Part]:
    """Where the run lies."""
    steps = material.run.steps
    kept = f"checkpoints of the steps {', '.join(f'{s:,}' for s in steps)}" if steps else "no checkpoint"
    yield Remark(f"The run's folder is {material.run.folder}; it holds {kept}.")
