"""Images patch by patch: the face of models whose trunk can be given some of the patches, or others in their place."""

from typing import Protocol

from torch import Tensor

from blocks.block import Params
from blocks.objectives.crops import Model


class PatchTrunk(Protocol):
    """Images to tokens in two moves: `blocks.trunks.vit.ViT`, `ConViT`, or anything with this face."""

    @property
    def embed_dim(self) -> int:
        """D."""

    @property
    def num_prefix_tokens(self) -> int:
        """P, the tokens before the patches'."""

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches along height and width."""

    def embed(self, params: Params, images: Tensor) -> Tensor:
        """images [B, C, H, W] -> patches [B, N, D]."""

    def encode(
        self,
        params: Params,
        patches: Tensor,
        *,
        grid: tuple[int, int],
        key: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """patches [B, N, D] -> tokens [B, P + N, D]; with `keep`, int64 [B, M], of those places alone."""


class PatchModel(Model, Protocol):
    """A model of such a trunk: `blocks.trunks.model.Model`, `DistilledModel`."""

    @property
    def trunk(self) -> PatchTrunk:
        """Its params lie side by side with the model's."""

    def pooled(self, params: Params, tokens: Tensor) -> Tensor:
        """The trunk's tokens [B, P + N, D] -> features [B, D]."""


class PatchDecoder(Protocol):
    """Tokens of some patches to all patches: `blocks.trunks.mae_decoder.MaeDecoder`."""

    def init(self, key: Tensor) -> Params:
        """Fresh params."""

    def __call__(
        self, params: Params, x: Tensor, *, grid: tuple[int, int], keep: Tensor, key: Tensor | None = None
    ) -> Tensor:
        """Tokens [B, P + M, D] of patches at the places `keep` -> pixels of all, [B, N, p q C] like `patchify`'s."""


def patchify(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """images [B, C, H, W] -> their patches' pixels [B, N, p q C], row by row, a pixel's channels together (MAE's)."""
    batch, channels, height, width = images.shape
    p, q = height // grid[0], width // grid[1]
    patches = images.reshape(batch, channels, grid[0], p, grid[1], q)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, grid[0] * grid[1], p * q * channels)
