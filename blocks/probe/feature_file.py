"""Features in a file that numpy reads: for other tools, and for probing again without the trunk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch

from blocks.durable import replace
from blocks.probe.features import Features

COLUMNS = ("features", "labels", "index")


def save_features(path: str | Path, found: Features, names: Sequence[str] | None = None) -> None:
    """Write an .npz, whole or not at all: features [n, D], labels [n], index [n] and, if given, the samples' names [n].

    Half precisions become float32. Call it on one process, with what `gathered` gives.
    """
    if names is not None and len(names) != len(found):
        raise ValueError(f"{len(names)} names for {len(found)} features; give one each, or none")
    wide = found.values.to(torch.promote_types(found.values.dtype, torch.float32))
    columns = zip(COLUMNS, (wide, found.labels, found.index), strict=True)
    arrays: dict[str, Any] = {name: column.cpu().numpy() for name, column in columns}
    if names is not None:
        arrays["names"] = np.asarray(names, dtype=str)
    temporary = Path(f"{path}.tmp")
    with open(temporary, "wb") as file:  # np.savez would add its own ending to a bare name
        np.savez(file, **arrays)
    replace(temporary, Path(path))


def load_features(path: str | Path) -> Features:
    """What `save_features` wrote, on the CPU. Raises ValueError for another file, and for one with other arrays."""
    with open(path, "rb") as file:
        if not is_zipfile(file):
            raise ValueError(f"{path} is no .npz file, or not a whole one; save_features writes one")
    with np.load(path, allow_pickle=False) as arrays:
        if not set(COLUMNS) <= set(arrays.files):
            raise ValueError(f"{path} holds {sorted(arrays.files)}, not {', '.join(COLUMNS)}")
        return Features(*(torch.from_numpy(arrays[name]) for name in COLUMNS))
