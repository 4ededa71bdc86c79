"""The two data sets of a recipe."""

import os

from blocks.data.digits import digits
from blocks.data.index.classes import common_classes
from blocks.data.index.index import Index, open_shards
from blocks.data.index.patterns import names_folder
from blocks.data.storage.fetch import is_remote
from blocks.secrets import hiding_secrets

PATTERN = "*?[{:"  # what makes a name one of several, by wildcards, braces or ::


@hiding_secrets()
def train_and_val(data: str, val: str) -> tuple[Index, Index]:
    """The training and the validation shards, by pattern, file, folder or URL each.

    Without `val` a folder is asked for its splits train and val; "digits" brings its own of both. Raises ValueError
    where one lacks the other, or where their classes differ, FileNotFoundError where there is nothing of a name.
    """
    if data == "digits":
        if val:
            raise ValueError(f"--data digits brings its own validation images; leave out --val {val}, or give --data")
        return tuple(map(open_shards, digits()))  # type: ignore[return-value]
    for flag, named in (("--data", data), ("--val", val)):
        _check_there(flag, named)
    if not val and not names_folder(data):
        raise ValueError(f"--data {data} needs --val, the shards to evaluate on; a folder may hold both")
    train, held_out = (open_shards(data), open_shards(val)) if val else (open_shards(data, s) for s in ("train", "val"))
    common_classes([(f"--data {data}", train.classes), (f"--val {val}", held_out.classes)])
    return train, held_out


def _check_there(flag: str, named: str) -> None:
    """Raises FileNotFoundError for the name of no folder, file, pattern or URL."""
    path = os.path.expanduser(named.removeprefix("file://"))
    if named and not is_remote(path) and not set(path) & set(PATTERN) and not os.path.exists(path):
        raise FileNotFoundError(f"{flag} {named}: no such folder or shards; give shards, or a folder of them")
