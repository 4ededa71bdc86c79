"""The running statistics of a trained module trunk: its batch norms' moments over many batches."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import functional_call

from blocks import tree
from blocks.block import Params
from blocks.collective import world
from blocks.interop.module_trunk import ModuleTrunk, NormByBatch
from blocks.trunks.model import Model

Sums = dict[str, Tensor]  # by the norm's name: [2, C], rows times mean, rows times mean square


@torch.no_grad()
def with_statistics(model: Model, params: Params, batches: Iterable[Tensor]) -> Params:
    """The params of a `trunk_from_module`, and the mean and variance of each batch norm's inputs over the batches.

    With them the model is the module in evaluation mode. Batches are images [B, C, H, W], as many on each process, of
    the kind that will be evaluated; each is normalised by its own moments on its way (Wu & Johnson 2021, section 3:
    exact where an average over training lags behind). Raises ValueError without batches, and for another trunk.
    """
    trunk = getattr(model, "trunk", model)
    if not isinstance(trunk, ModuleTrunk):
        raise ValueError(f"a {type(trunk).__name__} has no statistics to be found; evaluate it as it is")
    leaves = tree.flatten(params)
    sums: Sums = {}
    counts: dict[str, int] = {}
    module = watched(trunk, sums, counts)
    for images in batches:
        functional_call(module, trunk.held(leaves, images), (images,))
    if trunk.norm_names and not sums:
        raise ValueError("no batch to take statistics of; give images [B, C, H, W], at least one batch")
    kind = leaves[trunk.parameter_names[0]].dtype
    return tree.unflatten(leaves | {n: t.to(kind) for n, t in moments(sums, counts).items()})


def watched(trunk: ModuleTrunk, sums: Sums, counts: dict[str, int]) -> torch.nn.Module:
    """The trunk's module, of which each norm adds to sums and to counts of rows what comes in."""
    module = copy.deepcopy(trunk.by_batch)
    for name in trunk.norm_names:

        def add(norm: NormByBatch, inputs: tuple[Tensor], name: str = name) -> None:
            found = norm.block.observed(norm.params(), inputs[0].movedim(1, -1))[1]
            rows = inputs[0].numel() // norm.block.num_features * world()[1]
            mean, var = found["running_mean"].double(), found["running_var"].double() * (rows - 1) / rows
            sums[name] = rows * torch.stack((mean, var + mean.square())) + sums.get(name, 0)
            counts[name] = rows + counts.get(name, 0)

        module.get_submodule(name).register_forward_pre_hook(add)
    return module


def moments(sums: Sums, counts: dict[str, int]) -> dict[str, Tensor]:
    """running_mean and running_var, unbiased, [C] each by dotted name, in float64."""
    found = {}
    for name, rows in counts.items():
        mean, square = sums[name] / rows
        found[f"{name}.running_mean"] = mean
        found[f"{name}.running_var"] = (square - mean.square()) * rows / (rows - 1)
    return found
