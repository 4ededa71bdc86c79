"""What a model looks at: numbers from params and images, and (in `figures`) figures from the numbers."""

from blocks.pictures.attention import attention_maps, content_maps, position_maps
from blocks.pictures.components import PatchPca, patch_pca
from blocks.pictures.counts import confusion
from blocks.pictures.locality import attention_distance, gates, nonlocality, position_kernels
from blocks.pictures.similar import Examples, nearest, neighbours, prototype_examples
from blocks.pictures.vitals import vitals

__all__ = [
    "Examples",
    "PatchPca",
    "attention_distance",
    "attention_maps",
    "confusion",
    "content_maps",
    "gates",
    "nearest",
    "neighbours",
    "nonlocality",
    "patch_pca",
    "position_kernels",
    "position_maps",
    "prototype_examples",
    "vitals",
]
