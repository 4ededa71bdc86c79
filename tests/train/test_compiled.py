"""torch.compile of a step's loss."""

import shutil

import attrs
import pytest
import torch

from blocks import key
from blocks.layers.linear import Linear
from blocks.notes import noted, taken
from blocks.objectives.supervised import Supervised
from blocks.train import compiled
from blocks.train.step import make_step
from tests.train.small_problem import assert_close, batch_of, net, same, setup

NO_COMPILER = not any(map(shutil.which, compiled.COMPILERS))


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_a_compiled_step_gives_the_eager_numbers_with_dropout_and_memory():
    objective, optimizer, first = setup()
    step, eager = (make_step(objective, optimizer, ema_decay=0.9, clip_norm=0.5, compile=c) for c in (True, False))
    random_state = torch.get_rng_state()
    state, plain = first, first
    for number in range(3):
        state, metrics = step(state, batch_of(seed=number))
        plain, expected = eager(plain, batch_of(seed=number))
        assert_close(metrics, expected, atol=1e-5, rtol=1e-5)
        assert_close(state, plain, atol=1e-5, rtol=1e-5)
    assert same(step(first, batch_of())[0], step(first, batch_of())[0])
    assert torch.equal(torch.get_rng_state(), random_state)


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    objective, optimizer, _ = setup()
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler and finds none \(c\+\+, g\+\+, clang\+\+\); install"):
        make_step(objective, optimizer, compile=True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="no-such-compiler"):
        make_step(objective, optimizer, compile=True)


@attrs.frozen
class Noting:
    """A supervised objective that notes its images, whose mean over all micro-batches it remembers."""

    supervised: Supervised

    def init(self, key):
        params, _ = self.supervised.init(key)
        return params, {"mean": torch.zeros(3, 2, 2)}

    def loss(self, params, memory, batch, key):
        loss, _, metrics = self.supervised.loss(params, {}, batch, key)
        return loss, noted(memory, images=batch["images"]), metrics

    def settle_(self, params, memory, skip):
        memory, notes = taken(memory)
        memory["mean"].copy_(notes["images"].mean(0))
        return memory, {}


def counted():
    """(a backend that computes as PyTorch does, the graphs that it was given)."""
    graphs = []
    return lambda graph, _: graphs.append(graph) or graph.forward, graphs


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_what_micro_batches_note_is_compiled_once_however_many_there_are(accumulate):
    backend, graphs = counted()
    objective, optimizer, state = setup(objective=Noting(Supervised(net())), ema=False)
    eager = make_step(objective, optimizer, accumulate=accumulate)
    loss = compiled.compiled(objective.loss, backend)
    step = attrs.evolve(eager, gradient=attrs.evolve(eager.gradient, loss=loss))
    found, expected = (one(state, batch_of(size=4 * accumulate)) for one in (step, eager))
    assert same(found[0], expected[0])
    assert same(found[1], expected[1])
    assert len(graphs) == 1


def test_a_loss_that_was_compiled_for_many_models_is_compiled_for_one_more():
    """PyTorch counts compilations of a function, and gives up at eight."""
    objective = Supervised(Linear(3, 5))
    params, batch = objective.init(key(0))[0], {"images": torch.ones(2, 3), "labels": torch.arange(2)}
    for _ in range(10):
        backend, graphs = counted()
        loss, _, _ = compiled.compiled(objective.loss, backend)(params, {}, batch, None)
        assert torch.equal(loss, objective.loss(params, {}, batch, None)[0])
        assert len(graphs) == 1


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_what_compile_means_is_said_by_name_and_an_unknown_name_is_refused():
    meanings = {name: compiled.compile_mode(name) for name in (False, True, *compiled.MODES)}
    assert meanings == {False: None, True: "loss"} | {name: name for name in compiled.MODES}
    assert [compiled.compile_mode(name, world_size=2) for name in compiled.MODES] == ["layers", "loss", "loss", "loss"]
    with pytest.raises(ValueError, match="compile 'all' is unknown; there are True, False, 'layers', 'loss'"):
        compiled.compile_mode("all")
