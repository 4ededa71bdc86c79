"""A run's numbers to Weights & Biases; the package is imported here alone, where someone asked for it."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.runs.json_file import read_json, write_json
from blocks.runs.records import Record, numbers

FILE = "wandb.json"  # {"id"} of the run there, so that a resumed run goes on in the same curves


class WeightsAndBiases:
    """A place for records besides metrics.jsonl. The project is "vitmason", or what WANDB_PROJECT says.

    Raises ValueError where the package is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise ValueError("wandb is asked for and not installed: pip install wandb, or run without it") from None
        known = read_json(folder / FILE) or {"id": secrets.token_hex(4)}
        write_json(folder / FILE, known)
        project, name = os.environ.get("WANDB_PROJECT", "vitmason"), folder.name
        self._run = wandb.init(
            project=project, name=name, id=known["id"], resume="allow", dir=str(folder), config=dict(settings)
        )

    def write(self, record: Record) -> None:
        """Send a record's numbers."""
        self._run.log(numbers(record), step=record["step"])

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()
