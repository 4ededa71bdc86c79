"""What came of a run."""

from collections.abc import Iterable

from blocks.report.material import Material
from blocks.report.outcome import course, metrics_table, warnings
from blocks.report.parts import Part


def told(material: Material) -> Iterable[Part]:
    """What a reader should be warned of."""
    return warnings(material.run.records, material.run.settings.get("epochs"))


def metrics(material: Material) -> Iterable[Part]:
    """The metrics after the last epoch."""
    yield metrics_table(material.epochs)


def duration(material: Material) -> Iterable[Part]:
    """How long it took."""
    yield course(material.epochs)
