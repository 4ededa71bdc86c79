"""What a file may hold beyond a model's params without a loss: it is left, and the report says so."""

from collections.abc import Container

import torch
from torch import Tensor

from blocks.interop.positions import Grid, split_rows
from blocks.interop.trunk import layers_of, trunk_of
from blocks.layers.position import SinCosPosition
from blocks.layers.rotary import RotaryAttention, turning_periods
from blocks.tree import Flat

MOMENTS = (".running_mean", ".running_var", ".num_batches_tracked")  # of batch norms: our objectives' memory has them
QUEUE = ("queue", "queue_ptr")  # MoCo's: memory too
COUNT = "n_averaged"  # of the updates of torch's AveragedModel
MASK = "mask_token"  # in place of masked patches, as DINOv2 and DINOv3 learned: no whole image asks for it
PERIODS = "rope_embed.periods"  # of the rotation, as DINOv3's own files have them in bfloat16
ROUNDING = 1e-3  # of a half-precision number below 1, with room: no learned embedding is as near to sines


def spare(model: object, leaves: Flat, wanted: Container[str], grid: Grid | None) -> set[str]:
    """Names of leaves that no params want and whose numbers the model has by itself, or keeps elsewhere."""
    names = {name for name in leaves if name not in wanted}
    found = {name for name in names if name.endswith(MOMENTS) or name in (*QUEUE, MASK, COUNT)}
    found |= {name for name in names if name == PERIODS and _turns_alike(model, leaves[name])}
    found |= {name for name in names if name.endswith(".weight_g") and _is_idle(leaves, name, wanted)}
    fixed = {name: block for name, block in _sines(model).items() if name in names}
    return found | {n for n, block in fixed.items() if _are_sines(leaves[n], block, _tokens(leaves), grid)}


def has_rows_first(model: object, leaves: Flat, grid: Grid | None) -> bool:
    """Whether `pos_embed` is what the model makes by itself but for the halves' order, as in MoCo v3's own files."""
    found, block = leaves.get("pos_embed"), _sines(model).get("pos_embed")
    if found is None or block is None or found.ndim != 3:
        return False
    swapped, tokens = found.roll(found.shape[2] // 2, -1), _tokens(leaves)
    return _are_sines(swapped, block, tokens, grid) and not _are_sines(found, block, tokens, grid)


def _is_idle(leaves: Flat, name: str, wanted: Container[str]) -> bool:
    """Whether a weight norm's lengths are all 1, as those of wanted rows that are normalised."""
    return name[:-1] + "v" in wanted and bool((leaves[name] == 1).all())


def _turns_alike(model: object, periods: Tensor) -> bool:
    """Whether the rotary attention in a model's layers has these periods."""
    layers = layers_of(trunk_of(model))
    attn = getattr(layers[0], "attn", None) if layers else None
    if not isinstance(attn, RotaryAttention) or periods.shape != (attn.width // 4,):
        return False
    return torch.allclose(periods.float(), turning_periods(len(periods), attn.temperature), rtol=2**-8, atol=0)


def _sines(model: object) -> dict[str, SinCosPosition]:
    """Fixed positions by the names that MAE saves them by."""
    decoder = getattr(model, "decoder", None)
    found = {
        "pos_embed": getattr(trunk_of(model), "pos_embed", None),
        "decoder.decoder_pos_embed": getattr(decoder, "decoder_pos_embed", None),
    }
    return {name: block for name, block in found.items() if isinstance(block, SinCosPosition)}


def _tokens(leaves: Flat) -> int:
    return sum(name in leaves for name in ("cls_token", "dist_token"))


def _are_sines(found: Tensor, block: SinCosPosition, tokens: int, given: Grid | None) -> bool:
    """Whether rows [1, P + N, D] are those that the block makes, after prefix rows of zeros."""
    if found.ndim != 3 or found.shape[2] != block.embed_dim:
        return False
    prefix, grid = split_rows(found.shape[1], tokens, block.grid, given)
    made = block.table(grid)[:, block.num_prefix_tokens :]
    patches = found[:, prefix:].float()
    return torch.allclose(patches, made, rtol=0, atol=ROUNDING) and not found[:, :prefix].any()
