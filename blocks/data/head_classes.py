"""Labels numbered as a trained head knows its classes."""

from collections.abc import Sequence
from typing import Literal

from blocks.data.index.index import Index

Head = Literal["keep", "fit", "new"]


def for_head(shards: Sequence[Index], classes: Sequence[str] | None, head: Head) -> tuple[list[Index], Head]:
    """(the shards, what becomes of the head) that was trained with these classes; None: nobody knows their names.

    A head that is kept has its own order, which the labels take; one that "fit"s is kept where its classes are theirs,
    and "new" where the names differ. Raises ValueError for samples of classes that a head to keep does not know.
    """
    named = [index.classes for index in shards if index.classes]
    if head == "new" or not classes or not named:
        return list(shards), head
    if head == "fit" and any(set(names) != set(classes) for names in named):
        return list(shards), "new"
    return [index.in_order_of(classes) for index in shards], head
