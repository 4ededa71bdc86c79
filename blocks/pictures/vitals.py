"""A few numbers per layer and head that are worth a line in a run's log."""

from typing import Any

from torch import Tensor

from blocks.block import Params
from blocks.pictures.attention import shows_attention, trunk_of
from blocks.pictures.locality import attention_distance, gated_layers, gates


def vitals(model: Any, params: Params, images: Tensor) -> dict[str, Any]:
    """What heads look at, as JSON takes it; {} where the model's trunk has no attention to look at.

    "gates": [[share of position, per head], per GPSA layer], [] without; "gated_layers": [their places among all];
    "attention_distance": [[patches, per head], per layer]; "nonlocality": [patches, per layer]; "grid": [H, W] in
    patches; "patch_size": pixels. images [B, C, H, W] are a few, as the model takes them.
    """
    if not shows_attention(getattr(model, "trunk", model)):
        return {}
    trunk, distance = trunk_of(model), attention_distance(model, params, images)
    return {
        "gates": gates(params).tolist(),
        "gated_layers": [int(name) for name in gated_layers(params)],
        "attention_distance": distance.tolist(),
        "nonlocality": distance.mean(1).tolist(),
        "grid": list(trunk.grid(images)),
        "patch_size": trunk.patch_embed.patch_size,
    }
