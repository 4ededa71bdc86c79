"""Data: webdataset shards in, batches on the device out. Imports no model code."""

from blocks.data.augment import AutoAugment, ColorJitter, RandAugment, ThreeAugment, policy
from blocks.data.digits import digits
from blocks.data.erasing import RandomErasing
from blocks.data.eval_loader import EvalLoader
from blocks.data.index import Index, open_shards
from blocks.data.mixing import Mixing
from blocks.data.splits import train_and_val
from blocks.data.train_loader import TrainLoader
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.data.writer import write_shards

__all__ = [
    "AutoAugment",
    "ColorJitter",
    "EvalLoader",
    "EvalTransform",
    "Index",
    "Mixing",
    "RandAugment",
    "RandomErasing",
    "ThreeAugment",
    "TrainLoader",
    "TrainTransform",
    "digits",
    "open_shards",
    "policy",
    "train_and_val",
    "write_shards",
]
