"""Pictures from anywhere to webdataset shards with an index."""

from blocks.data.writing.choose import source_of
from blocks.data.writing.convert import NothingKept, Written, write_dataset
from blocks.data.writing.dataset import dataset_source
from blocks.data.writing.encoding import Encoding
from blocks.data.writing.folder import folder_source
from blocks.data.writing.item import Item
from blocks.data.writing.iterator import iterator_source
from blocks.data.writing.listing import list_source
from blocks.data.writing.source import Source

__all__ = [
    "Encoding",
    "Item",
    "NothingKept",
    "Source",
    "Written",
    "dataset_source",
    "folder_source",
    "iterator_source",
    "list_source",
    "source_of",
    "write_dataset",
]
