"""A whole step as one compiled graph: forward, backward, clipping, update, average and memory."""

from collections.abc import Callable, Hashable
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from blocks import tree
from blocks.threefry import threefry, threefry_reference
from blocks.train.batch_gradient import Batch, Metrics
from blocks.train.state import State

Body = Callable[[State, Batch], tuple[State, Metrics]]
ATEN = torch.ops.aten
ASKS = "the step asks the device for a number, by item(), float() or if, and a graph cannot wait; keep tensors"


class WholeStep:
    """`body`, an update in place of a donated state, traced once for each shape of state and batch, then compiled.

    The trace runs the body on tensors without numbers, so that Python of any kind may stand in it, and a question to
    the device cannot. The graph has no break, for there is nothing to go back to. Layers that are checkpointed may lose
    by it: a compiler may see that they compute the same twice, and keep it.
    """

    def __init__(self, body: Body, backend: str = "inductor"):
        self.body, self.backend = body, backend
        self.traces: dict[Hashable, Trace] = {}

    def __call__(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """The body's result; leaves that it changes in place are changed in place, the others are new."""
        leaves, inputs = tree.flatten(state), tree.flatten(batch)
        looks = *looks_of(leaves), *looks_of(inputs)
        if looks not in self.traces:
            self.traces[looks] = trace(self.body, state, batch, self.backend)
        return self.traces[looks]([*leaves.values(), *inputs.values()])


@attrs.frozen(eq=False)
class Trace:
    """What the body does to tensors of one shape each: (leaves of state and batch) -> (state, metrics).

    `state` is the new one without numbers; each of its leaves is the given one of the `old` place, or, where that is
    None, the graph's next output. `metrics` are names, of its last outputs.
    """

    graph: Callable[..., list[Tensor]]
    state: State
    old: list[int | None]
    metrics: list[str]

    def __call__(self, given: list[Tensor]) -> tuple[State, Metrics]:
        found = iter(self.graph(*given))
        leaves = iter([next(found) if place is None else given[place] for place in self.old])
        state = tree.map(lambda _: next(leaves), self.state)
        return state, dict(zip(self.metrics, found, strict=True))


def trace(body: Body, state: State, batch: Batch, backend: str) -> Trace:
    """The body's operations on tensors like these, as one compiled graph.

    Raises ValueError where the body asks for a number: to answer it, each step would wait for the device.
    """
    found: dict[str, Any] = {}

    def flat(*given: Tensor) -> list[Tensor]:
        leaves = iter(given)
        new, metrics = body(tree.map(lambda _: next(leaves), state), tree.map(lambda _: next(leaves), batch))
        places = {id(leaf): place for place, leaf in enumerate(given)}
        found.update(state=new, old=[places.get(id(leaf)) for leaf in tree.leaves(new)], metrics=list(metrics))
        fresh = [leaf for leaf, place in zip(tree.leaves(new), found["old"], strict=True) if place is None]
        return [*fresh, *metrics.values()]

    given = [*tree.leaves(state), *tree.leaves(batch)]
    # a CPU's words come fastest from numpy, a GPU's from within the graph
    fused = {} if state.step.is_cpu else {threefry: threefry_reference}
    try:
        graph = reshaping(make_fx(flat, decomposition_table=fused, tracing_mode="fake")(*given))
    except GuardOnDataDependentSymNode as error:
        raise ValueError(ASKS) from error
    if any(node.target is ATEN._local_scalar_dense.default for node in graph.graph.nodes):
        raise ValueError(ASKS)
    return Trace(torch.compile(graph, fullgraph=True, dynamic=False, backend=backend), **found)


def reshaping(graph: GraphModule) -> GraphModule:
    """The graph with reshapes for views: a compiler may lay out in another way what is looked at."""
    for node in graph.graph.nodes:
        if node.target in (ATEN.view.default, ATEN._unsafe_view.default):
            node.target = ATEN.reshape.default
    graph.recompile()
    return graph


def looks_of(leaves: dict[str, Tensor]) -> list[Hashable]:
    """All that a trace depends on: names, shapes, strides, types, devices."""
    return [(name, t.shape, t.stride(), t.dtype, t.device) for name, t in leaves.items()]
