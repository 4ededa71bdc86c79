"""Bytes that have arrived, and the time left."""

import os

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


def bytes_bar(visible: bool = True) -> Progress:
    """Only the first process of a run draws one."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        disable=not visible or os.environ.get("RANK", "0") != "0",
    )
