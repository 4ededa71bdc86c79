"""A step on a donated state as one CUDA graph: the host launches it at once instead of kernel by kernel."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from blocks import tree
from blocks.train.batch_gradient import Batch, Metrics
from blocks.train.state import State
from blocks.train.whole import Body

WARM = 3  # steps before the capture: compilers and libraries allocate and choose in the first ones


class Recorder(Protocol):
    """Where steps run that are to be recorded: `warm` runs one, `record` gives (what it returned, how to repeat it)."""

    def warm(self, function: Callable[[], Metrics]) -> Metrics: ...

    def record(self, function: Callable[[], Metrics]) -> tuple[Metrics, Callable[[], None]]: ...


class CudaGraphs:
    """A side stream for what comes before a capture, then a graph, which computes nothing while it is captured."""

    def __init__(self) -> None:
        self.side: torch.cuda.Stream | None = None

    def warm(self, function: Callable[[], Metrics]) -> Metrics:
        """What the function returns, run beside the main stream and waited for by it.

        One stream for all: memory that was used in one is not used again in another, and each would keep a step's.
        """
        main = torch.cuda.current_stream()
        if self.side is None or self.side.device != main.device:
            self.side = torch.cuda.Stream(main.device)
        self.side.wait_stream(main)
        with torch.cuda.stream(self.side):
            found = function()
        main.wait_stream(self.side)
        return found

    def record(self, function: Callable[[], Metrics]) -> tuple[Metrics, Callable[[], None]]:
        """(where each replay will leave its metrics, the replay)."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a loader's thread pins memory meanwhile
            found = function()
        return found, graph.replay


class CapturedStep:
    """`body` in place on one state, again and again: the first steps warm up, then it is captured and replayed.

    The state's tensors keep their addresses, the batch is copied to where the first one lay. Another state is captured
    anew. A batch of another shape is computed without the graph, which is said once.
    """

    def __init__(self, body: Body, recorder: Recorder | None = None):
        self.body, self.recorder, self.on_cuda = body, recorder or CudaGraphs(), recorder is None
        self.leaves: list[Tensor] = []
        self.batch: Batch = {}
        self.metrics: Metrics = {}
        self.replay: Callable[[], None] | None = None
        self.steps = 0

    def __call__(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """(the given state, updated, metrics). Raises ValueError where the state is not on a GPU."""
        if self.on_cuda and not state.step.is_cuda:
            raise ValueError(f'compile="graph" needs a GPU, and the state is on {state.step.device}; use "step"')
        with torch.cuda.device(state.step.device) if self.on_cuda else nullcontext():
            return self.on_one_device(state, batch)

    def on_one_device(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """The same, the state's GPU being the current one, whose streams warm up and record."""
        if not self.stands_for(state):
            self.begin(state, batch)
        if not alike(self.batch, batch):
            warnings.warn("a batch of another shape is computed without the CUDA graph", stacklevel=4)
            return state, self.in_place(state, batch)
        torch._foreach_copy_(list(self.batch.values()), [batch[name] for name in self.batch])
        self.steps += 1
        if self.steps <= WARM:
            return state, self.recorder.warm(lambda: self.in_place(state, self.batch))
        if self.replay is None:
            self.metrics, self.replay = self.recorder.record(lambda: self.in_place(state, self.batch))
        self.replay()
        return state, {name: value.clone() for name, value in self.metrics.items()}

    def stands_for(self, state: State) -> bool:
        """Whether this is the state whose tensors are in the graph."""
        leaves = tree.leaves(state)
        return len(leaves) == len(self.leaves) and all(a is b for a, b in zip(leaves, self.leaves, strict=True))

    def begin(self, state: State, batch: Batch) -> None:
        """Forget what was captured; from now on it is this state and batches like this one."""
        self.replay, self.metrics, self.steps = None, {}, 0
        self.leaves, self.batch = tree.leaves(state), {name: value.clone() for name, value in batch.items()}

    def in_place(self, state: State, batch: Batch) -> Metrics:
        """The body's metrics; all that it returns anew is written into the given state's tensors."""
        new, metrics = self.body(state, batch)
        old, fresh = tree.flatten(state), tree.flatten(new)
        if old.keys() != fresh.keys():
            raise ValueError(
                f'compile="graph" wants a state that keeps its leaves; changed: {old.keys() ^ fresh.keys()}'
            )
        moved = [name for name in old if fresh[name] is not old[name]]
        metrics = {name: value.clone() for name, value in metrics.items()}  # some may be the state's own tensors
        torch._foreach_copy_([old[n] for n in moved], [fresh[n].clone() for n in moved])
        return metrics


def alike(one: Batch, other: Batch) -> bool:
    """Whether two batches have the same names, shapes and types."""
    return one.keys() == other.keys() and all(
        (one[n].shape, one[n].dtype, one[n].device) == (other[n].shape, other[n].dtype, other[n].device) for n in one
    )
