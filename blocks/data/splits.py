"""The two data sets of a recipe."""

import os

from blocks.data.digits import digits
from blocks.data.index.classes import common_classes
from blocks.data.index.files import IndexFiles
from blocks.data.index.index import Index, open_shards
from blocks.data.index.patterns import expand, names_folder
from blocks.data.index.places import resolved
from blocks.data.storage import Retries
from blocks.data.storage.fetch import is_remote
from blocks.data.storage.shard import RemoteShard
from blocks.secrets import hiding_secrets

PATTERN = "*?[{:"  # what makes a name one of several, by wildcards, braces or ::
Place = tuple[str, str | None]  # shards by name, and their split in a folder


@hiding_secrets()
def train_and_val(data: str, val: str) -> tuple[Index, Index]:
    """The training and the validation shards, by pattern, file, folder or URL each.

    A folder of several splits gives its train, or its val, and both without `val`; "digits" brings its own of both.
    Raises ValueError where one lacks the other, where their classes differ or there is one alone, and where a shard is
    in both; FileNotFoundError where there is nothing of a name.
    """
    train, held_out = _places(data, val)
    if held_out is None:
        raise ValueError(f"--data {data} needs --val, the shards to evaluate on; a folder may hold both")
    found = _agreeing(data, val, open_shards(*train), _held_out(data, held_out))
    _refuse_common(data, val, *found)
    if found[0].num_classes < 2:
        raise ValueError(
            f"--data {data} has one class alone, and nothing to tell it from: give each class a folder of its own, or "
            "learn without labels by a recipe that pretrains"
        )
    return found


@hiding_secrets()
def pretraining_shards(data: str, val: str) -> tuple[Index, Index | None]:
    """As `train_and_val`, but training shards may be without labels: then no validation shards are needed, and those
    that are given may have any classes. None where there are no validation shards with labels.
    """
    place, held_out = _places(data, val)
    if held_out and not val and not _is_there(place):  # a folder of shards by other names
        place, held_out = (data, None), None
    train = open_shards(*place, need_labels=False)
    if train.labelled:
        if held_out is None:
            raise ValueError(f"--data {data} has labels and needs --val, the shards to evaluate on by k-NN")
        train, found = _agreeing(data, val, train, _held_out(data, held_out))
        found.check_labels(train.num_classes)
        return train, found
    if held_out is None or not (val or _is_there(held_out)):
        return train, None
    found = open_shards(*held_out, need_labels=bool(val))
    return train, found if found.labelled else None


def _held_out(data: str, place: Place) -> Index:
    """The validation shards. Raises ValueError for a folder that is to hold both splits and has no val, but a train."""
    try:
        return open_shards(*place)
    except (FileNotFoundError, ValueError) as error:
        if place != (data, "val") or _is_there(place):
            raise
        raise ValueError(
            f"--data {data} holds train alone, and nothing to evaluate on: name other shards by --val, or write these "
            "with python -m blocks.data.shards ... --val-share 0.1"
        ) from error


def _places(data: str, val: str) -> tuple[Place, Place | None]:
    """Where the training and the validation shards are, None for the latter if nothing says it."""
    if data == "digits":
        if val:
            raise ValueError(f"--data digits brings its own validation images; leave out --val {val}, or give --data")
        train, held_out = digits()
        return (train, None), (held_out, None)
    for flag, named in (("--data", data), ("--val", val)):
        _check_there(flag, named)
    if val:
        return _own_split(data, "train"), _own_split(val, "val")
    return ((data, "train"), (data, "val")) if names_folder(data) else ((data, None), None)


def _own_split(named: str, split: str) -> Place:
    """This split of a folder that holds several; all else as it is."""
    several = names_folder(named) and not _is_there((named, None)) and _is_there((named, split))
    return named, split if several else None


def _agreeing(data: str, val: str, train: Index, held_out: Index) -> tuple[Index, Index]:
    common_classes([(f"--data {data}", train.classes), (f"--val {val}", held_out.classes)])
    return train, held_out


def _refuse_common(data: str, val: str, train: Index, held_out: Index) -> None:
    """Raises ValueError where a shard is in both: what was trained on says nothing of other images."""
    trained = _by_place(train)
    common = [name for place, name in _by_place(held_out).items() if place in trained]
    if common:
        more = f", the first of {len(common)}" if len(common) > 1 else ""
        raise ValueError(
            f"--data {data} and --val {val or data} both hold {common[0]}{more}; images that were trained on say "
            "nothing of others: give --data the others alone, train-*.tar beside val-*.tar for example"
        )


def _by_place(index: Index) -> dict[str, str]:
    """What messages call each shard, by where it lies."""
    places = (shard.url if isinstance(shard, RemoteShard) else shard.name for shard in index.shards)
    return {resolved(place): shard.name for place, shard in zip(places, index.shards, strict=True)}


def _is_there(place: Place) -> bool:
    """Whether a folder has this split, or one alone."""
    try:
        return bool(expand(*place, IndexFiles(Retries())))
    except (FileNotFoundError, ValueError):
        return False


def _check_there(flag: str, named: str) -> None:
    """Raises FileNotFoundError for the name of no folder, file, pattern or URL."""
    path = os.path.expanduser(named.removeprefix("file://"))
    if named and not is_remote(path) and not set(path) & set(PATTERN) and not os.path.exists(path):
        here = "" if os.path.isabs(path) else f" in {os.getcwd()}"  # a run's names are as they were given to it
        raise FileNotFoundError(f"{flag} {named}: no such folder or shards{here}; give shards, or a folder of them")
