"""Data: webdataset shards in, batches on the device out. Imports no model code."""

from blocks.data.augment import AutoAugment, ColorJitter, Distortion, RandAugment, ThreeAugment, policy
from blocks.data.digits import digits
from blocks.data.erasing import RandomErasing
from blocks.data.index.index import Index, open_shards
from blocks.data.loading.eval_loader import EvalLoader
from blocks.data.loading.picture_loader import PictureLoader
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.per_image import PerImage
from blocks.data.picture_files import picture_files
from blocks.data.presets import (
    barlow_views,
    byol_views,
    dino_views,
    dinov2_views,
    ibot_views,
    mae_views,
    moco_v2_views,
    moco_v3_views,
    simclr_views,
    swav_views,
    vicreg_views,
)
from blocks.data.sources import Sources, mix_sources
from blocks.data.splits import pretraining_shards, train_and_val
from blocks.data.subset import balanced_share, knn_shards
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.data.writing import Encoding, Item, write_dataset
from blocks.data.writing.writer import write_shards

__all__ = [
    "AutoAugment",
    "ColorJitter",
    "Distortion",
    "Encoding",
    "EvalLoader",
    "EvalTransform",
    "Index",
    "Item",
    "Mixing",
    "MultiCrop",
    "PerImage",
    "PictureLoader",
    "RandAugment",
    "RandomErasing",
    "Sources",
    "ThreeAugment",
    "TrainLoader",
    "TrainTransform",
    "balanced_share",
    "barlow_views",
    "byol_views",
    "digits",
    "dino_views",
    "dinov2_views",
    "ibot_views",
    "knn_shards",
    "mae_views",
    "mix_sources",
    "moco_v2_views",
    "moco_v3_views",
    "open_shards",
    "picture_files",
    "policy",
    "pretraining_shards",
    "simclr_views",
    "swav_views",
    "train_and_val",
    "vicreg_views",
    "write_dataset",
    "write_shards",
]
