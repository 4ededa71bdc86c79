"""The two data sets of a recipe."""

from blocks.data.digits import digits
from blocks.data.index.classes import common_classes
from blocks.data.index.index import Index, open_shards
from blocks.data.index.patterns import names_folder
from blocks.secrets import hiding_secrets


@hiding_secrets()
def train_and_val(data: str, val: str) -> tuple[Index, Index]:
    """The training and the validation shards, by pattern, file, folder or URL each.

    Without `val` a folder is asked for its splits train and val; "digits" brings its own of both. Raises ValueError
    where one lacks the other, or where their classes differ.
    """
    if data == "digits":
        if val:
            raise ValueError(f"--data digits brings its own validation images; leave out --val {val}, or give --data")
        return tuple(map(open_shards, digits()))  # type: ignore[return-value]
    if not val and not names_folder(data):
        raise ValueError(f"--data {data} needs --val, the shards to evaluate on; a folder may hold both")
    train, held_out = (open_shards(data), open_shards(val)) if val else (open_shards(data, s) for s in ("train", "val"))
    common_classes([(f"--data {data}", train.classes), (f"--val {val}", held_out.classes)])
    return train, held_out
