"""An ordinary torch.nn.Module as the trunk of a model that objectives train, batch norm included."""

import copy
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from blocks import tree
from blocks.block import Block, Params
from blocks.interop.from_module import ModuleBlock, called, check_module, check_not_trained
from blocks.layers.batch_norm import BatchNorm
from blocks.trunks.model import Model

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
RUNNING = ("running_mean", "running_var")
ITERATED = ("_SpectralNorm",)  # torch's, whose vectors follow the weight in training alone
RATES = ("dropout", "attention_dropout", "drop_prob")  # torch's attention and LSTM, torchvision's Swin, timm's DropPath


class NormByBatch(nn.Module):
    """A torch batch norm's parameters under our `BatchNorm`: images' channels stand second, [B, C, ...]."""

    def __init__(self, norm: Any):
        super().__init__()
        self.block = BatchNorm(norm.num_features, norm.eps, norm.affine)
        self.weight, self.bias = norm.weight, norm.bias

    def params(self) -> dict[str, Tensor]:
        """{"weight", "bias"} [C] each, {} of one that is not affine."""
        return {"weight": self.weight, "bias": self.bias} if self.block.affine else {}

    def forward(self, x: Tensor) -> Tensor:
        """Normalised by the moments of the batch over all processes."""
        return self.block(self.params(), x.movedim(1, -1)).movedim(-1, 1)


@attrs.frozen
class ModuleTrunk(ModuleBlock):
    """images -> the module's features [B, D]; params are its parameters alone, by its names.

    Batch norm takes the moments of the batch over all processes, as `BatchNorm` does; where params also hold running
    statistics, which `with_statistics` finds, it takes these. Until then every call depends on its whole batch, in
    evaluation too, and all processes must make it. Other buffers are constants. Raises ValueError for modules that
    would drop something (a block draws from keys alone), for norms of other kinds with running statistics, and for
    features of another shape.
    """

    embed_dim: int
    num_prefix_tokens = 0
    by_batch: nn.Module = attrs.field(init=False, eq=False, repr=False)
    norm_names: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    parameter_names: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)

    @by_batch.default
    def _by_batch(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            module = self.make()
        check_draws_nothing(module)
        found = with_norms_by_batch(copy.deepcopy(self.skeleton))
        return with_buffers(found, module)

    @norm_names.default
    def _norm_names(self) -> tuple[str, ...]:
        return tuple(name for name, part in self.by_batch.named_modules() if isinstance(part, NormByBatch))

    @parameter_names.default
    def _parameter_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.skeleton.named_parameters())

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of the running statistics."""
        return tuple(f"{norm}.{name}" for norm in self.norm_names for name in RUNNING)

    def held(self, leaves: tree.Flat, x: Tensor) -> tree.Flat:
        """The tensors that `by_batch` needs for images x: the parameters, and the constants on x's device."""
        constants = {name: like(leaf, x) for name, leaf in self.by_batch.named_buffers()}
        return {name: leaves[name] for name in self.parameter_names} | constants

    def init(self, key: Tensor) -> Params:
        """The parameters of a module that `make` builds, see `ModuleBlock`."""
        leaves = tree.flatten(ModuleBlock.init(self, key))
        return tree.unflatten({name: leaves[name] for name in self.parameter_names})

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        leaves = tree.flatten(params)
        given = [name for name in self.statistics if name in leaves]
        check_not_trained(leaves, tuple(given))
        held = self.held(leaves, x) | {name: leaves[name] for name in given}
        y = called(self.skeleton if given else self.by_batch, held, x)
        wanted, found = [x.shape[0], self.embed_dim], list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if found != wanted:
            raise ValueError(
                f"the module gives {found}, and features of embed_dim {self.embed_dim} are {wanted}; "
                "replace its classifier by nn.Identity(), and let it pool"
            )
        return y


@attrs.frozen
class AsTheyAre(Block):
    """The pool of features that are pooled already: [B, D] -> [B, D]."""

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return x


def trunk_from_module(module: nn.Module, embed_dim: int, head: Block | None = None) -> Model:
    """A model of the module's features [B, embed_dim] and a head, for any objective; `init` starts from its weights.

    What batch norm does is said at `ModuleTrunk`. Raises ValueError as that does, and for a module that has parameters
    below "head", where the model has its own.
    """
    check_module(module)
    if any(name.split(".")[0] == "head" for name, _ in module.named_parameters()):
        raise ValueError(
            'the module has parameters below "head", as the model will; replace it by nn.Identity(), or give '
            "nn.Sequential(module)"
        )
    trunk: Any = ModuleTrunk(partial(copy.deepcopy, copy.deepcopy(module)), embed_dim)  # it has no tokens
    return Model(trunk, AsTheyAre(), head)


def with_norms_by_batch(module: nn.Module) -> nn.Module:
    """The module itself, its batch norms replaced by `NormByBatch`. Raises ValueError for norms of other kinds."""
    twins = {part: NormByBatch(part) for part in module.modules() if type(part) in NORMS}
    for name, part in list(module.named_modules(remove_duplicate=False)):  # one norm may stand in several places
        if part in twins:
            module.set_submodule(name, twins[part])
        elif getattr(part, "track_running_stats", False) or type(part).__name__ in ITERATED:
            raise ValueError(
                f"{name} is a {type(part).__name__}, whose running statistics nothing would move; "
                f"of those norms only {', '.join(norm.__name__ for norm in NORMS)} can be trained here"
            )
    return module


def with_buffers(module: nn.Module, like: nn.Module) -> nn.Module:
    """The module itself, its buffers those of one like it, shared where its own were."""
    twins = {id(buffer): like.get_buffer(name).detach().clone() for name, buffer in module.named_buffers()}
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        parent, _, last = name.rpartition(".")
        module.get_submodule(parent)._buffers[last] = twins[id(buffer)]
    return module


def check_draws_nothing(module: nn.Module) -> None:
    """Raises ValueError for a part that drops something in training."""
    for name, part in module.named_modules():
        rate = dropped(part)
        if rate:
            raise ValueError(
                f"{name} is a {type(part).__name__} that drops at rate {rate} in training, from torch's global "
                "generator; a block draws from keys alone: build the module with rate 0"
            )


def dropped(part: nn.Module) -> float:
    """The rate at which a part itself, of those known, drops something."""
    if isinstance(part, nn.modules.dropout._DropoutNd) or type(part).__name__ == "StochasticDepth":  # torchvision's
        return float(part.p)  # type: ignore[arg-type]
    rates = [rate for rate in (getattr(part, name, None) for name in RATES) if isinstance(rate, int | float)]
    return float(max(rates, default=0))


def like(constant: Tensor, x: Tensor) -> Tensor:
    """A constant on x's device, in x's type if it is a floating-point number."""
    return constant.to(x.device, x.dtype if constant.is_floating_point() else constant.dtype, non_blocking=True)
