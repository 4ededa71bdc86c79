"""MAE: the pixels of patches that the encoder was not given (He et al. 2022)."""

from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from blocks import random
from blocks.block import Params
from blocks.checks import is_within
from blocks.notes import Memory
from blocks.objectives.collapse import feature_std
from blocks.objectives.crops import Batch, crops_of, view_keys
from blocks.objectives.masking import masked_places, random_keep
from blocks.objectives.patches import PatchDecoder, PatchModel, patchify
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import at_least_float32, sample_index


def is_share(_: Any, attribute: attrs.Attribute, value: float) -> None:
    """attrs validator of a share that is neither nothing nor all."""
    if not is_within(value, 0, 1) or value in (0, 1):
        raise ValueError(f"{attribute.name} {value!r} is not between 0 and 1; MAE masks 0.75")


def is_encoder(_: Any, attribute: attrs.Attribute, model: PatchModel) -> None:
    """attrs validator of a model whose params are its trunk's alone: the decoder is given tokens, not features."""
    if model.head is not None:
        raise ValueError(f"the {attribute.name}'s {type(model.head).__name__} would not be trained; use num_classes=0")
    pool = getattr(model, "pool", None)
    untrained = {} if pool is None else pool.init(random.key(0))
    if untrained:
        raise ValueError(
            f"the {attribute.name}'s {', '.join(untrained)} would not be trained: its pool's, not its trunk's; "
            'use global_pool="token", or "avg" with fc_norm=False'
        )


@attrs.frozen(eq=False)
class MAE(SelfSupervised):
    """Mean squared error of the pixels of patches masked at random, from the others alone (He et al. 2022, section 3).

    Of a crop's N patches int((1 - mask_ratio) N) are encoded. `decoder`, as `mae_decoder` makes it, turns their tokens
    into every patch's pixels; its params lie below "decoder". With `norm_pix` a patch's pixels have mean 0 and variance
    1. Masks follow from the key; without one, from the sample's index alone. The outcome's features are those of the
    kept patches. Raises ValueError for a model with a head, or a pool with params, and for a ratio that keeps no patch.
    """

    model: PatchModel = attrs.field(validator=is_encoder)
    decoder: PatchDecoder
    mask_ratio: float = attrs.field(default=0.75, validator=is_share)
    norm_pix: bool = True
    compares_images: ClassVar[bool] = False

    @property
    def draws(self) -> bool:
        return True

    def fresh(self, key: Tensor) -> Params:
        """The model's params, and the decoder's below "decoder"."""
        return self.model.init(key) | {"decoder": self.decoder.init(random.fold_in(key, 3))}  # 0 to 2 are the model's

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        found, views, index = [], 0, sample_index(batch)
        keys = random.fold_in(random.key(0, index.device) if key is None else key, index)
        for crops in crops_of(batch):
            own = view_keys(keys, crops.shape[1], views)
            found.append(self._errors(params, crops.transpose(0, 1).flatten(0, 1), own, drops=key is not None))
            views += crops.shape[1]
        loss = torch.cat([errors for errors, _ in found]).mean()
        first = found[0][1][: len(keys)].detach()
        return Outcome(loss, memory, {"feature_std": feature_std(first)}, first)

    def _errors(self, params: Params, images: Tensor, keys: Tensor, drops: bool) -> tuple[Tensor, Tensor]:
        """(mean squared error over its masked patches of each image [B], features [B, D])."""
        mask_key, trunk_key, decoder_key = random.split(keys, 3).unbind(1)
        trunk, grid = self.model.trunk, self.model.trunk.grid(images)
        keep = random_keep(mask_key, grid[0] * grid[1], int(grid[0] * grid[1] * (1 - self.mask_ratio)))
        patches = trunk.embed(params, images)
        tokens = trunk.encode(params, patches, grid=grid, keep=keep, key=trunk_key if drops else None)
        guess = self.decoder(params["decoder"], tokens, grid=grid, keep=keep, key=decoder_key if drops else None)
        error = (at_least_float32(guess) - self.target(images, grid)).square().mean(-1)  # [B, N]
        masked = masked_places(keep, patches.shape[1])
        return (error * masked).sum(1) / (patches.shape[1] - keep.shape[1]), self.model.pooled(params, tokens)

    def target(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """The pixels to predict, [B, N, p q C]."""
        pixels = at_least_float32(patchify(images, grid))
        if not self.norm_pix:
            return pixels
        variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
        return (pixels - mean) * (variance + 1e-6).rsqrt()
