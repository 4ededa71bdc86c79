"""The encoder layer's two-layer perceptron."""

from collections.abc import Callable
from functools import partial

import attrs
import torch.nn.functional as F
from torch import Tensor

from blocks.block import Block, Params
from blocks.checks import count, one_of
from blocks.layers.drop import dropout, is_rate
from blocks.layers.linear import Linear
from blocks.ops.gelu import linear_gelu, quick_gelu

NEAR_GELU: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,  # OpenAI's in CLIP
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # of larger SigLIPs
}


@attrs.frozen
class Mlp(Block):
    """x [B, N, D] -> [B, N, D] through `hidden_features` exact GELUs; dropout after both layers, given a key.

    `act_layer` takes what stands near GELU in its place: "quick_gelu", x times the sigmoid of 1.702 x, or "gelu_tanh".
    Raises ValueError for another.
    """

    in_features: int = attrs.field(validator=count)
    hidden_features: int = attrs.field(validator=count)
    drop: float = attrs.field(default=0.0, validator=is_rate)
    fc1: Linear = attrs.field(init=False)
    fc2: Linear = attrs.field(init=False)
    # after the layers, whose start depends on their place
    act_layer: str = attrs.field(default="gelu", validator=one_of(("gelu", *NEAR_GELU)))

    @fc1.default
    def _fc1(self) -> Linear:
        return Linear(self.in_features, self.hidden_features)

    @fc2.default
    def _fc2(self) -> Linear:
        return Linear(self.hidden_features, self.in_features)

    @property
    def is_random(self) -> bool:
        return self.drop > 0

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        rows = x.flatten(0, -2)  # [B N, D]: in two axes a product's reshapes fall away, both ways
        hidden = self._hidden(params["fc1"], rows)
        if key is not None and self.drop > 0:
            hidden = dropout(hidden.view(*x.shape[:-1], -1), self.drop, key, place=0).flatten(0, -2)
        y = self.fc2(params["fc2"], hidden).view(x.shape)
        return dropout(y, self.drop, key, place=1)

    def _hidden(self, params: Params, rows: Tensor) -> Tensor:
        """rows [B N, D] -> [B N, E], activated."""
        if self.act_layer == "gelu":
            return linear_gelu(rows, params["weight"], params["bias"])
        return NEAR_GELU[self.act_layer](self.fc1(params, rows))
