"""The masked autoencoder's light decoder."""

import attrs
import torch
from torch import Tensor

from blocks.block import Block, Params
from blocks.layers.attention import Attention
from blocks.layers.encoder import EncoderLayer, layer_draws
from blocks.layers.linear import Linear
from blocks.layers.norm import LayerNorm
from blocks.layers.position import SinCosPosition
from blocks.layers.token import MaskToken
from blocks.trunks.assemble import drop_path_rates, encoder_layer
from blocks.trunks.distilled import DistilledModel
from blocks.trunks.model import Model
from blocks.trunks.parts import Parts


@attrs.frozen
class MaeDecoder(Block):
    """Encoded tokens [B, P + M, D] -> a prediction for every patch of the grid, [B, N, p p C] (He et al. 2022, 3).

    The M patches lie at the places `keep`, int64 [B, M], the others are mask tokens; the P prefix tokens take part, and
    are left out at the end. Names are MAE's; `mae_decoder` makes it. Raises ValueError without keep or grid.
    """

    decoder_embed: Linear
    mask_token: MaskToken
    decoder_pos_embed: SinCosPosition
    decoder_blocks: tuple[EncoderLayer, ...]
    decoder_norm: LayerNorm
    decoder_pred: Linear

    @property
    def is_random(self) -> bool:
        return any(layer.is_random for layer in self.decoder_blocks)

    def __call__(
        self,
        params: Params,
        x: Tensor,
        *,
        grid: tuple[int, int] | None = None,
        keep: Tensor | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        if grid is None or keep is None:
            raise ValueError(f"grid {grid} and keep {keep}: the decoder wants both, to know where its tokens belong")
        x = self._spread(params, self.decoder_embed(params["decoder_embed"], x), grid, keep)
        for i, draws in enumerate(layer_draws(self.decoder_blocks, key, x)):
            x = self.decoder_blocks[i](params["decoder_blocks"][str(i)], x, grid=grid, **draws)
        patches = self.decoder_norm(params["decoder_norm"], x[:, -grid[0] * grid[1] :])
        return self.decoder_pred(params["decoder_pred"], patches)

    def _spread(self, params: Params, x: Tensor, grid: tuple[int, int], keep: Tensor) -> Tensor:
        """[B, P + M, d] -> [B, P + N, d] with positions; prefix tokens have none."""
        prefix, kept = x.tensor_split((x.shape[1] - keep.shape[1],), 1)
        patches = self.mask_token(params["mask_token"], kept, keep=keep, num_tokens=grid[0] * grid[1])
        return torch.cat((prefix, self.decoder_pos_embed({}, patches, grid=grid)), 1)


def mae_decoder(
    model: Model | DistilledModel,
    *,
    embed_dim: int = 512,
    depth: int = 8,
    num_heads: int = 16,
    mlp_ratio: float = 4.0,
    drop_path_rate: float = 0.0,
) -> MaeDecoder:
    """The decoder for a model's trunk; 8 layers, 512 wide, as published for every encoder (He et al. 2022, table 1).

    Weights start as a trunk's, normal with deviation .02, where MAE's code draws both by Glorot's uniform rule.
    Raises ValueError for a trunk that is not made of parts, and for widths that heads or sines do not divide.
    """
    trunk = model.trunk
    if not isinstance(trunk, Parts):
        raise ValueError(f"a {type(trunk).__name__} does not say its patches; make the model with vit or convit")
    patch = trunk.patch_embed
    return MaeDecoder(
        Linear(patch.embed_dim, embed_dim),
        MaskToken(embed_dim),
        SinCosPosition((1, 1), embed_dim),
        tuple(
            encoder_layer(Attention(embed_dim, num_heads), mlp_ratio, rate, None)
            for rate in drop_path_rates(drop_path_rate, depth)
        ),
        LayerNorm(embed_dim),
        Linear(embed_dim, patch.in_chans * patch.patch_size**2),
    )
