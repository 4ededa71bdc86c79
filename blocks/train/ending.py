"""How a run ends: its report, which fails no run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def report(folder: str | Path, say: Callable[[str], None], model: Any, seen: Any) -> None:
    """Write the run's report, of its model and its evaluation's loader, None for none of these.

    What goes wrong with it is told: the run is done and its files are whole.
    """
    try:
        from blocks.report.material import Live  # only now: it draws, and training need not wait for that
        from blocks.report.write import write_report

        how = {name: getattr(seen, name) for name in ("transform", "mean", "std") if hasattr(seen, name)}
        live = None if model is None else Live(model, how if "transform" in how else None)
        write_report(folder, live=live, say=say)
    except Exception as error:
        say(f"no report: {type(error).__name__}: {error}; python -m blocks.report {folder} tries again")
