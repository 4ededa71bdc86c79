"""ViT and DeiT by size. Every knob of `vit` can be given on top; vit_base(head=...) sets another head."""

from blocks.trunks.distilled import DistilledModel, distilled
from blocks.trunks.model import Model
from blocks.trunks.vit import vit


def vit_tiny(num_classes: int = 1000, **knobs) -> Model:
    """ViT-Ti/16: 12 layers, width 192, 3 heads (DeiT, table 1)."""
    return vit(**{"num_classes": num_classes, "embed_dim": 192, "num_heads": 3} | knobs)


def vit_small(num_classes: int = 1000, **knobs) -> Model:
    """ViT-S/16: 12 layers, width 384, 6 heads (DeiT, table 1)."""
    return vit(**{"num_classes": num_classes, "embed_dim": 384, "num_heads": 6} | knobs)


def vit_base(num_classes: int = 1000, **knobs) -> Model:
    """ViT-B/16: 12 layers, width 768, 12 heads (ViT, table 1)."""
    return vit(**{"num_classes": num_classes, "embed_dim": 768, "num_heads": 12} | knobs)


def vit_large(num_classes: int = 1000, **knobs) -> Model:
    """ViT-L/16: 24 layers, width 1024, 16 heads (ViT, table 1)."""
    return vit(**{"num_classes": num_classes, "embed_dim": 1024, "depth": 24, "num_heads": 16} | knobs)


def vit_huge(num_classes: int = 1000, **knobs) -> Model:
    """ViT-H/14: 32 layers, width 1280, 16 heads (ViT, table 1)."""
    shape = {"patch_size": 14, "embed_dim": 1280, "depth": 32, "num_heads": 16}
    return vit(**{"num_classes": num_classes} | shape | knobs)


def deit_tiny(num_classes: int = 1000, **knobs) -> Model:
    """DeiT-Ti/16, in shape a ViT-Ti (Touvron et al. 2021, table 1): what differs is the training."""
    return vit_tiny(num_classes, **knobs)


def deit_small(num_classes: int = 1000, **knobs) -> Model:
    """DeiT-S/16, in shape a ViT-S."""
    return vit_small(num_classes, **knobs)


def deit_base(num_classes: int = 1000, **knobs) -> Model:
    """DeiT-B/16, in shape a ViT-B."""
    return vit_base(num_classes, **knobs)


def deit_tiny_distilled(num_classes: int = 1000, **knobs) -> DistilledModel:
    """DeiT-Ti with a distillation token (Touvron et al. 2021, section 4)."""
    return distilled(deit_tiny(num_classes, **knobs))


def deit_small_distilled(num_classes: int = 1000, **knobs) -> DistilledModel:
    """DeiT-S with a distillation token."""
    return distilled(deit_small(num_classes, **knobs))


def deit_base_distilled(num_classes: int = 1000, **knobs) -> DistilledModel:
    """DeiT-B with a distillation token."""
    return distilled(deit_base(num_classes, **knobs))
