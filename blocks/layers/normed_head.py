"""What heads of linear layers with batch norms between them share."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from blocks.block import Params
from blocks.layers.batch_norm import BatchNorm
from blocks.layers.linear import Linear
from blocks.ops.gelu import gelu
from blocks.tree import Flat, unflatten

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": gelu}
NormCall = Callable[[str, BatchNorm, Params, Tensor], Tensor]


class NormedHead:
    """`layers`, an activation before each but the first, and `norms` of what goes into the activations, or ()."""

    __slots__ = ()

    layers: tuple[Linear, ...]
    norms: tuple[BatchNorm, ...]
    final_norm: BatchNorm | None = None

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return self._through(params, x, by_themselves)

    def observed(self, params: Params, x: Tensor) -> tuple[Tensor, Flat]:
        """(the output, the moments [C] of its batch norms: "norms.0.running_mean" ...)."""
        found: Flat = {}

        def observe(name: str, norm: BatchNorm, params: Params, x: Tensor) -> Tensor:
            y, moments = norm.observed(params, x)
            found.update({f"{name}.{leaf}": value for leaf, value in moments.items()})
            return y

        return self._through(params, x, observe), found

    def running(self) -> Params:
        """The running moments of its batch norms before the first batch, {} without any."""
        norms = {f"norms.{i}": norm for i, norm in enumerate(self.norms)}
        norms |= {} if self.final_norm is None else {"final_norm": self.final_norm}
        return unflatten({f"{n}.{leaf}": value for n, norm in norms.items() for leaf, value in norm.running().items()})

    def _through(self, params: Params, x: Tensor, normalise: NormCall) -> Tensor:
        """The output, its norms called by `normalise(name, norm, its params, x)`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")

    def _hidden(self, params: Params, x: Tensor, normalise: NormCall, activation: str) -> Tensor:
        """x through the layers, norms and activations."""
        for i, layer in enumerate(self.layers):
            x = layer(params["layers"][str(i)], x if i == 0 else ACTIVATIONS[activation](x))
            if i < len(self.norms):
                x = normalise(f"norms.{i}", self.norms[i], params["norms"][str(i)], x)
        return x


def by_themselves(name: str, norm: BatchNorm, params: Params, x: Tensor) -> Tensor:
    """A norm as it is without an observer."""
    return norm(params, x)
