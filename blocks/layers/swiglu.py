"""The gated perceptron, in an encoder layer's place of `Mlp`."""

import attrs
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import count
from blocks.layers.drop import dropout, is_rate
from blocks.layers.linear import Linear


@attrs.frozen
class SwiGLU(Block):
    """x [B, N, D] -> [B, N, D]: fc2(silu(g) v), where fc1(x) is g and v side by side (Shazeer 2020, eq. 6).

    g and v are `hidden_features` wide each, and params those of timm's SwiGLUPacked. Dropout as in `Mlp`.
    """

    in_features: int = attrs.field(validator=count)
    hidden_features: int = attrs.field(validator=count)
    drop: float = attrs.field(default=0.0, validator=is_rate)
    fc1: Linear = attrs.field(init=False)
    fc2: Linear = attrs.field(init=False)

    @fc1.default
    def _fc1(self) -> Linear:
        return Linear(self.in_features, 2 * self.hidden_features)

    @fc2.default
    def _fc2(self) -> Linear:
        return Linear(self.hidden_features, self.in_features)

    @property
    def is_random(self) -> bool:
        return self.drop > 0

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        gate, value = self.fc1(params["fc1"], x.flatten(0, -2)).chunk(2, -1)  # [B N, E] each
        hidden = (F.silu(gate) * value).view(*x.shape[:-1], -1)
        hidden = dropout(hidden, self.drop, key, place=0).flatten(0, -2)
        y = self.fc2(params["fc2"], hidden).view(x.shape)
        return dropout(y, self.drop, key, place=1)
