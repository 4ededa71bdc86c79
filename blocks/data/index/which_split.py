"""Which split of a folder is meant: two of them are never taken for one."""

import re

from blocks.data.index.format import IndexFile
from blocks.data.index.places import join

WORDS = re.compile(r"(?<![a-z])(?:(train|test)|(val)(?:id(?:ation)?)?)(?![a-z])")  # in the names of shards


def chosen(index: IndexFile, folder: str, split: str | None) -> str:
    """The split of a folder with an index. Raises ValueError where it holds several and none is named, or not it."""
    splits = ", ".join(index.splits)
    if split is None and len(index.splits) > 1:
        first, shards = next((name, split.shards) for name, split in index.splits.items())
        raise _several(folder, splits, first, shards[0].name if shards else "")
    if not index.splits or split not in (None, *index.splits):
        raise ValueError(f"{folder} holds the splits {splits}, not {split}")
    return split or next(iter(index.splits))


def refuse_several(folder: str, names: list[str]) -> None:
    """Raises ValueError where shards without an index are held out, by their names, and others are not."""
    splits = {_split_of(name): name for name in reversed(names)}  # and the first shard of each
    if len(splits) > 1 and set(splits) - {"train", ""}:
        known = sorted(set(splits) - {""})
        raise _several(folder, ", ".join(known) + (" and others" if "" in splits else ""), known[0], splits[known[0]])


def is_of(shard: str, split: str) -> bool:
    """Whether a shard without an index is of this split, by its name."""
    return shard.startswith(split) or "" != _split_of(shard) == _split_of(split)


def refuse_split(name: str, split: str | None) -> None:
    """Raises ValueError for the split of what is no folder: else the same shards would be both train and val."""
    if split is not None:
        raise ValueError(
            f'{name} is no folder with the split {split}; for training give --val too, else --split "", in Python no '
            "split"
        )


def _split_of(shard: str) -> str:
    found = WORDS.search(shard.lower())
    return (found[1] or found[2]) if found else ""


def _several(folder: str, splits: str, first: str, shard: str) -> ValueError:
    example = join(folder, shard) if shard else ""
    return ValueError(
        f"{folder} holds the splits {splits}; take one: by its shards, {example} ..., by split={first!r} in Python, by "
        f"--split {first} where a command has it; recipes take a folder with train and val as --data alone"
    )
