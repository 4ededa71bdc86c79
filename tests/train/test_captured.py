"""A captured step: static places, warm-up, replay; a recorder that calls again stands for CUDA graphs."""

import attrs
import pytest
import torch

from blocks import tree
from blocks.train.captured import WARM, CapturedStep
from blocks.train.step import make_step
from tests.train.small_problem import batch_of, same, setup
from tests.train.test_compiled import NO_COMPILER


class Again:
    """Records a function by calling it again into the tensors that it returned first."""

    def __init__(self):
        self.warmed = self.recorded = 0

    def warm(self, function):
        self.warmed += 1
        return function()

    def record(self, function):
        self.recorded += 1
        static = {}

        def replay():
            for name, value in function().items():
                static.setdefault(name, torch.empty_like(value)).copy_(value)

        return static, replay


def captured(recorder):
    """(first state, the captured step, the eager one)."""
    objective, optimizer, first = setup()
    eager = make_step(objective, optimizer, ema_decay=0.9, donate=True)
    return first, attrs.evolve(eager, whole=CapturedStep(eager.once, recorder)), eager


def test_a_captured_step_gives_the_same_numbers_in_the_same_places():
    recorder = Again()
    state, step, eager = captured(recorder)
    plain, given, seen = tree.clone(state), state, []
    for number in range(WARM + 3):
        state, metrics = step(state, batch_of(seed=number))
        plain, expected = eager(plain, batch_of(seed=number))
        assert state is given
        assert same(state, plain)
        assert same(metrics, expected)
        seen.append((metrics, expected))
    assert all(same(*pair) for pair in seen)  # a later replay writes over no earlier metrics
    assert (recorder.warmed, recorder.recorded) == (WARM, 1)
    assert (step.warm, eager.warm) == (WARM + 1, 1)


def test_another_state_is_captured_anew_and_another_shape_is_not_captured():
    recorder = Again()
    state, step, eager = captured(recorder)
    other, plain = tree.clone(state), tree.clone(state)
    for number in range(WARM + 1):
        state, _ = step(state, batch_of(seed=number))
    for number in range(WARM + 1):
        other, _ = step(other, batch_of(seed=number))
        plain, _ = eager(plain, batch_of(seed=number))
    assert same(other, plain)
    assert recorder.recorded == 2
    with pytest.warns(UserWarning, match="another shape"):
        other, _ = step(other, batch_of(6))
    assert same(other, eager(plain, batch_of(6))[0])
    assert recorder.recorded == 2


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_a_cuda_graph_wants_a_donated_state_on_a_gpu():
    objective, optimizer, first = setup()
    with pytest.raises(ValueError, match="needs donate=True"):
        make_step(objective, optimizer, compile="graph")
    with pytest.raises(ValueError, match="needs a GPU, and the state is on cpu"):
        make_step(objective, optimizer, compile="graph", donate=True, ema_decay=0.9)(first, batch_of())
