"""ConViT by size (d'Ascoli et al. 2021, table 1): 48 wide per head, 64 for "+". Every knob of `convit` can be given."""

from blocks.trunks.convit import convit
from blocks.trunks.model import Model


def convit_tiny(num_classes: int = 1000, **knobs) -> Model:
    """ConViT-Ti: 4 heads, width 192."""
    return convit(**{"num_classes": num_classes, "embed_dim": 192, "num_heads": 4} | knobs)


def convit_small(num_classes: int = 1000, **knobs) -> Model:
    """ConViT-S: 9 heads, width 432."""
    return convit(**{"num_classes": num_classes, "embed_dim": 432, "num_heads": 9} | knobs)


def convit_base(num_classes: int = 1000, **knobs) -> Model:
    """ConViT-B: 16 heads, width 768."""
    return convit(**{"num_classes": num_classes, "embed_dim": 768, "num_heads": 16} | knobs)


def convit_tiny_plus(num_classes: int = 1000, **knobs) -> Model:
    """ConViT-Ti+: 4 heads, width 256."""
    return convit(**{"num_classes": num_classes, "embed_dim": 256, "num_heads": 4} | knobs)


def convit_small_plus(num_classes: int = 1000, **knobs) -> Model:
    """ConViT-S+: 9 heads, width 576, VISSL's S."""
    return convit(**{"num_classes": num_classes, "embed_dim": 576, "num_heads": 9} | knobs)


def convit_base_plus(num_classes: int = 1000, **knobs) -> Model:
    """ConViT-B+: 16 heads, width 1024, VISSL's B."""
    return convit(**{"num_classes": num_classes, "embed_dim": 1024, "num_heads": 16} | knobs)
