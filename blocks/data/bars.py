"""Progress bars; only the first process of a run draws one."""

import os

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


class _Speed(ProgressColumn):
    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self.unit}/s")


def progress_bar(visible: bool = True, unit: str = "") -> Progress:
    """A bar with counts and time left, and of a unit how many a second."""
    speed = [_Speed(unit)] if unit else []
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *speed,
        disable=not (visible and _is_first()),
    )


def bytes_bar(visible: bool = True) -> Progress:
    """A bar of bytes that have arrived, with their speed and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        disable=not (visible and _is_first()),
    )


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
