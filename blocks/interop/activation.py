"""Whether a model activates as its weights were trained: no name of a leaf tells, and a wrong answer is as smooth."""

from typing import Any

from blocks.interop import clip
from blocks.interop.trunk import layers_of
from blocks.interop.weights import Weights
from blocks.layers.mlp import NEAR_GELU, Mlp

UNSURE = ("norm_pre.weight", "attn_pool.latent")  # leaves of CLIPs and SigLIPs, of which some have GELU, some another


def activations(trunk: Any) -> set[str]:
    """Those of the MLPs in a trunk's layers."""
    mlps = [getattr(layer, "mlp", None) for layer in layers_of(trunk)]
    return {mlp.act_layer for mlp in mlps if isinstance(mlp, Mlp)}


def other_activation(trunk: Any, found: Weights) -> list[str]:
    """A line where the file tells another activation than the trunk has."""
    ours = activations(trunk)
    if found.act_layer is None or ours <= {found.act_layer}:
        return []
    known = found.act_layer in ("gelu", *NEAR_GELU)
    way_out = f'make it with act_layer="{found.act_layer}"' if known else "no block here has that one"
    return [
        f'these weights were trained with act_layer "{found.act_layer}", the model has "{", ".join(sorted(ours))}": '
        f"{way_out}"
    ]


def untold_activation(trunk: Any, found: Weights) -> str:
    """What to say where such a file does not tell its activation; else ""."""
    ours = activations(trunk)
    sure = not found.layout.startswith(clip.NAME) and not any(name in found.leaves for name in UNSURE)
    if found.act_layer is not None or not ours or sure:
        return ""
    return (
        f"names do not tell the activation, the model has act_layer \"{', '.join(sorted(ours))}\": OpenAI's and Meta's "
        'CLIPs have "quick_gelu", some SigLIPs "gelu_tanh"'
    )
