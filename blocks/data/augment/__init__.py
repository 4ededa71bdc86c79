"""Random augmentation: what is drawn from a sample's key, and how it is done to the picture."""

from blocks.data.augment.auto_augment import AutoAugment
from blocks.data.augment.boxes import center_crop_box, flips, random_crop_boxes
from blocks.data.augment.color_jitter import ColorJitter
from blocks.data.augment.distortion import Distortion
from blocks.data.augment.ops import FILL, Op
from blocks.data.augment.parse import policy
from blocks.data.augment.plan import Plan, Policy
from blocks.data.augment.rand_augment import RandAugment
from blocks.data.augment.three_augment import ThreeAugment

__all__ = [
    "FILL",
    "AutoAugment",
    "ColorJitter",
    "Distortion",
    "Op",
    "Plan",
    "Policy",
    "RandAugment",
    "ThreeAugment",
    "center_crop_box",
    "flips",
    "policy",
    "random_crop_boxes",
]
