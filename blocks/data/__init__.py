"""Data: webdataset shards in, batches on the device out. Imports no model code."""

from blocks.data.digits import digits
from blocks.data.eval_loader import EvalLoader
from blocks.data.index import Index, open_shards
from blocks.data.train_loader import TrainLoader
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.data.writer import write_shards

__all__ = [
    "EvalLoader",
    "EvalTransform",
    "Index",
    "TrainLoader",
    "TrainTransform",
    "digits",
    "open_shards",
    "write_shards",
]
