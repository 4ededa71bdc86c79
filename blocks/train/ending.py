"""How a run ends: its report, which fails no run."""

from collections.abc import Callable
from pathlib import Path


def report(folder: str | Path, say: Callable[[str], None]) -> None:
    """Write the run's report. What goes wrong with it is told: the run is done and its files are whole."""
    try:
        from blocks.report.write import write_report  # only now: it draws, and training need not wait for that

        write_report(folder, say=say)
    except Exception as error:
        say(f"no report: {type(error).__name__}: {error}; python -m blocks.report {folder} tries again")
