"""The training step, a pure function: `step(state, batch) -> (state, metrics)`."""

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.checks import is_whole, is_within
from blocks.layers.compiled import compiled_layers
from blocks.optim.clip import Clip, ClipNorm
from blocks.optim.groups import as_patterns
from blocks.optim.names import names_and_ranks
from blocks.optim.optimizer import Optimizer, Schedule, update_in_parts_
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import ends
from blocks.random import split
from blocks.train.batch_gradient import Batch, BatchGradient, Metrics
from blocks.train.captured import WARM, CapturedStep
from blocks.train.compiled import WHOLE, Compile, compile_mode, compiled
from blocks.train.faces import check_faces, check_memory, check_tree, check_updated, first_of, settled_of
from blocks.train.freeze import check_optimizer_state, trainable
from blocks.train.loss_scale import LossScale, loss_scale_of
from blocks.train.peers import Peers
from blocks.train.precision import compute_dtype
from blocks.train.report import averaged
from blocks.train.state import State
from blocks.train.whole import Body, WholeStep
from blocks.tree import Flat

Settle = Callable[[tree.Tree, Any, Tensor], tuple[Any, Metrics]]  # (params, memory, skip) -> (memory, metrics)


def init_state(
    objective: Any,
    optimizer: Optimizer,
    key: Tensor,
    *,
    ema: bool = False,
    frozen: Sequence[str] = (),
    precision: str = "float32",
    loss_scale: LossScale | None = None,
    params: tree.Tree | None = None,
) -> State:
    """The state before the first step, on the key's device; with ema, an average of the params is kept.

    `params` take the place of the objective's fresh ones, and the memory is what it `remember`s of them, if it does.
    `frozen`, `precision` and `loss_scale` are `make_step`'s.
    Raises ValueError for params with other names or shapes, for patterns that match nothing, and for an objective or
    an optimizer that is none.
    """
    check_faces(objective, optimizer)
    init_key, run_key = split(key).unbind()
    fresh, memory = first_of(objective, init_key)
    if params is not None:
        fresh = copied(params, fresh)
        memory = objective.remember(fresh) if hasattr(objective, "remember") else memory
    params = tree.map(torch.Tensor.contiguous, fresh)
    moments = optimizer.init(trainable(tree.flatten(params), as_patterns(frozen) or ()))
    check_tree("the state of the optimizer's init(params)", moments)
    average = tree.clone(params) if ema else {}
    scaler = loss_scale_of(precision, loss_scale)
    scale = {} if scaler is None else scaler.init(key.device)
    zero = torch.zeros((), dtype=torch.int64, device=key.device)
    return State(params, moments, memory, average, zero, run_key.clone(), zero.clone(), scale)


def copied(params: tree.Tree, like: tree.Tree) -> tree.Tree:
    """Copies of params in the types and on the devices of others like them. Raises ValueError where names differ."""
    return tree.map(lambda t, p: t.to(p.device, p.dtype, copy=True), tree.like(like, tree.flatten(params)), like)


def make_step(
    objective: Any,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    clip: Clip | None = None,
    clip_norm: float | None = None,
    ema_decay: float | Schedule | None = None,
    precision: str = "float32",
    loss_scale: LossScale | None = None,
    frozen: Sequence[str] = (),
    compile: Compile = False,
    donate: bool = False,
) -> "Step":
    """`step(state, batch) -> (state, metrics)`, pure; with donate it reuses the given state's storage.

    The batch is this process's share; it is worked off in `accumulate` equal parts. Where the loss or the gradient's
    norm is not finite, on any process, params, optimizer, ema and memory stay as they are and `skipped` counts up; in
    float16 a gradient that is not finite lowers the loss scale instead, as long as it can. An objective that has
    `settle_(params, memory, skip)` changes its memory there, once a step, after the update. `clip_norm=1.0` is short
    for `clip=ClipNorm(1.0)`. A schedule of `ema_decay` is one of the state's step. Params that a name pattern of
    `frozen` matches get no gradient and stay, see `trainable_names`.
    `compile`: "loss", which True stands for, fuses forward and backward; "layers" each encoder layer alone, which
    starts sooner; "step" all into one graph, optimizer, average and memory too; "graph" replays that as a CUDA graph,
    for a GPU and with donate. Among several processes the gradients' exchange can be in no graph: there "step" and
    "graph" are "loss".
    Metrics, 0-dim tensors, means over all processes: loss, lr, grad_norm, skipped, and the objective's.
    """
    if not is_whole(accumulate, 1):
        raise ValueError(f"accumulate {accumulate!r} is not a number of micro-batches; use 1 or more")
    check_faces(objective, optimizer)
    ema_decay = number_or_schedule(ema_decay)
    check_ema_decay(ema_decay)
    dtype, draws = compute_dtype(precision), getattr(objective, "draws", True)
    peers = Peers.of_world()
    mode = compile_mode(compile, peers.world_size)
    if mode == "graph" and not donate:
        raise ValueError('compile="graph" keeps the state where it is, so it needs donate=True; or use compile="step"')
    loss = loss_of(objective, mode)
    gradient = BatchGradient(loss, draws, accumulate, dtype, as_patterns(frozen) or (), donate, peers)
    scaler = loss_scale_of(precision, loss_scale)
    settle = getattr(objective, "settle_", None)
    step = Step(gradient, optimizer, one_clip(clip, clip_norm), ema_decay, scaler, donate, settle)
    return attrs.evolve(step, whole=whole_of(step, mode)) if mode in WHOLE else step


def loss_of(objective: Any, mode: str | None) -> Callable:
    """The objective's loss, compiled as the mode says."""
    if mode == "layers":
        return compiled_layers(objective).loss
    return compiled(objective.loss) if mode == "loss" else objective.loss


def whole_of(step: "Step", mode: str, backend: str = "inductor") -> Body:
    """The step on a donated state as one graph."""
    traceable = attrs.evolve(step, gradient=step.gradient.alone())
    whole = WholeStep(traceable.once, backend)
    return CapturedStep(whole) if mode == "graph" else whole


def check_ema_decay(decay: float | Schedule | None) -> None:
    """Raises ValueError for what no average can keep of itself in a step; a schedule may come to 1."""
    if decay is not None and (decay == 1 or not all(is_within(end, 0, 1) for end in ends(decay))):
        raise ValueError(f"ema_decay {decay} is not in [0, 1); to keep no average, give None (on the command line 0)")


def one_clip(clip: Clip | None, clip_norm: float | None) -> Clip | None:
    """The clip that is meant. Raises ValueError where both are given, and for a norm that is not above 0."""
    if clip_norm is None:
        return clip
    if clip is not None:
        raise ValueError(f"clip {clip} and clip_norm {clip_norm} are both given; use one of them")
    if not (isinstance(clip_norm, Real) and clip_norm > 0):
        raise ValueError(f"clip_norm {clip_norm!r} is not above 0; to clip nothing, give None (on the command line 0)")
    return ClipNorm(clip_norm)


@attrs.frozen(eq=False)
class Step:
    """`make_step`'s result. Calling it is the step; nothing it holds changes what it returns."""

    gradient: BatchGradient
    optimizer: Optimizer
    clip: Clip | None
    ema_decay: float | Schedule | None
    loss_scale: LossScale | None
    donate: bool
    settle: Settle | None
    whole: Body | None = None  # `once` as one graph

    def __call__(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One update: (state, this process's share of the batch) -> (state, metrics)."""
        self.check(state)
        state = state if self.donate else tree.clone(state)
        return self.once(state, batch) if self.whole is None else self.whole(state, batch)

    def once(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One update in place of a state that was made for this step."""
        memory, params, grads, norm, metrics = self.gradient(state, tree.flatten(state.params), batch)
        with torch.no_grad():
            return self.apply(state, params, memory, grads, norm, metrics)

    def check(self, state: State) -> None:
        """Raises ValueError for a state that was made for another step."""
        agree("ema", state.ema, "ema_decay", self.ema_decay, "init_state(..., ema=True)", "ema_decay=0.9999")
        scale = ("precision", self.loss_scale, 'init_state(..., precision="float16")', 'precision="float16"')
        agree("loss_scale", state.loss_scale, *scale)
        peers = self.gradient.peers
        if peers.kept is None:
            params = trainable(tree.flatten(state.params), self.gradient.frozen)
            pair = names_and_ranks(params), tuple(tree.flatten(state.optimizer))
            if pair != peers.fitting:
                check_optimizer_state(self.optimizer, state.optimizer, params)
                peers.fitting = pair

    @property
    def warm(self) -> int:
        """How many steps cost more than the later ones: they compile, and the last of them may be captured."""
        return WARM + 1 if isinstance(self.whole, CapturedStep) else 1

    def broken(self, state: State, batch: Batch) -> list[str]:
        """Names of the params whose gradient was not finite, given a state that the step skipped and its batch."""
        gradient = self.gradient if self.whole is None else self.gradient.alone()  # a graph's has no copies to keep
        before = attrs.evolve(state, step=state.step - 1)
        _, _, grads, _, _ = gradient(before, tree.flatten(state.params), batch)
        return [name for name, grad in grads.items() if not grad.isfinite().all()]

    def apply(
        self, state: State, params: Flat, memory: Any, grads: Flat, norm: Tensor, metrics: Metrics
    ) -> tuple[State, Metrics]:
        """The update, or none of it where the loss or the gradient is not finite."""
        skip = not_finite(metrics["loss"], norm)
        rates = self.update_(state, params, grads, norm, skip)
        memory, found = self.settled(state, memory, skip)
        self.gradient.peers.checked = True
        scale, counted = self.rescale(state.loss_scale, skip, metrics["loss"])
        skipped = (state.skipped + 1) * counted
        new = attrs.evolve(
            state,
            memory=memory,
            step=state.step + 1,
            skipped=skipped,
            loss_scale=scale,
        )
        used = {"loss_scale": state.loss_scale["scale"]} if state.loss_scale else {}
        return new, {**metrics, **found, **rates, **used, "grad_norm": norm, "skipped": skipped}

    def settled(self, state: State, memory: Any, skip: Tensor) -> tuple[Any, Metrics]:
        """(the memory after the update, or the old one if it is skipped, the metrics of its settling)."""
        first = not self.gradient.peers.checked
        if self.settle is None:
            if first:
                check_memory(state.memory, memory, "loss")
            return choose(skip, state.memory, memory), {}
        found = self.settle(state.params, memory, skip)
        memory, metrics = settled_of(found, state.memory) if first else found
        return memory, averaged(metrics, self.gradient.peers.world_size)

    def update_(self, state: State, params: Flat, grads: Flat, norm: Tensor, skip: Tensor) -> Metrics:
        """Clip, update, and move the average of the params, where one is kept: the rates, those of schedules too."""
        by_norm = self.clip if isinstance(self.clip, ClipNorm) else None  # a factor is no pass of its own
        if self.clip is not None and by_norm is None:
            grads = self.clip(params, grads, norm)
        decay = self.ema_decay(state.step) if callable(self.ema_decay) else self.ema_decay
        update_all_ = getattr(self.optimizer, "update_all_", partial(update_in_parts_, self.optimizer))
        before = None if self.gradient.peers.checked else dict(params)
        rates = update_all_(
            params,
            grads,
            state.optimizer,
            skip=skip,
            factor=None if by_norm is None else by_norm.factor(norm),
            average=None if decay is None else trainable(tree.flatten(state.ema), self.gradient.frozen),
            ema_decay=0.0 if decay is None else decay,
        )
        if before is not None:
            check_updated(before, params, rates)
        return rates | ({"ema_decay": decay} if isinstance(decay, Tensor) else {})

    def rescale(self, state: tree.Tree, skip: Tensor, loss: Tensor) -> tuple[tree.Tree, Tensor]:
        """(the next loss scale, whether a skip counts): an overflow that a lower scale may mend does not."""
        if self.loss_scale is None:
            return state, skip
        overflow = skip & loss.isfinite()
        new = choose(skip & ~overflow, state, self.loss_scale.next(state, overflow))
        return new, skip & ~(overflow & ~self.loss_scale.at_floor(state))


def agree(name: str, held: tree.Tree, knob: str, wanted: Any, how_state: str, how_step: str) -> None:
    """Raises ValueError where a state holds a part that its step does not want, or lacks one that it wants."""
    if (wanted is None) != (isinstance(held, dict) and not held):
        has, asks = ("no", "does") if wanted is not None else ("an" if name == "ema" else "a", "does not")
        raise ValueError(
            f"the state has {has} {name}, and the step's {knob} {asks} ask for it; use {how_state} with "
            f"make_step(..., {how_step}), or neither"
        )


def not_finite(loss: Tensor, norm: Tensor) -> Tensor:
    """Whether an update must be skipped, for its loss or its gradient's norm: bool of their shape."""
    return ~(norm + loss.abs() < torch.inf)  # a NaN compares false


def choose(skip: Tensor, old: Any, new: Any) -> Any:
    """The new tree, or the old one where skip is true; detached."""
    if isinstance(old, dict) and not old:
        return new
    return tree.map(lambda o, n: o if o is n else torch.where(skip, o, n.detach()), old, new)
