"""In a sweep's step the runs are the runs that they would be alone."""

import attrs
import pytest
import torch

from blocks import convit, tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import cosine
from blocks.random import key, normal
from blocks.train.step import init_state, make_step
from blocks.train.sweep_step import init_sweep, make_sweep_step, run_of, vmappable_attention
from tests.train.small_problem import assert_close, assert_pure, same
from tests.train.small_sweep import RUNS, STEPS, keys, optimizers


@pytest.fixture(scope="module")
def objective():
    """A ConViT of one GPSA layer and one plain, with drop path and label smoothing."""
    model = convit(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2.0, num_classes=5,
        local_up_to_layer=1, drop_path_rate=0.5,
    )  # fmt: skip
    return Supervised(model, label_smoothing=0.1)


def batch_of(step, dtype=torch.float32):
    return {"images": normal(key(step), (6, 3, 8, 8), dtype), "labels": torch.arange(6) % 5}


def together_and_alone(objective, runs, dtype, **knobs):
    """(the sweep's state and last metrics, [those of each run alone])."""
    many = tree.cast(init_sweep(objective, optimizers(runs), keys(runs)), dtype)
    step = make_sweep_step(objective, optimizers(runs), **knobs)
    for number in range(STEPS):
        many, metrics = step(many, batch_of(number, dtype))
    alone = []
    for optimizer, seed in zip(optimizers(runs), keys(runs), strict=True):
        state, one = tree.cast(init_state(objective, optimizer, seed), dtype), make_step(objective, optimizer, **knobs)
        for number in range(STEPS):
            state, row = one(state, batch_of(number, dtype))
        alone.append((state, row))
    return (many, metrics), alone


@pytest.mark.parametrize("knobs", [{}, {"clip_norm": 0.3}], ids=["free", "clipped"])
def test_each_run_equals_the_run_alone(objective, knobs):
    """In float64: rounding that Adam makes into full steps where a gradient is zero stays far below the tolerance."""
    (many, metrics), alone = together_and_alone(objective, RUNS, torch.float64, **knobs)
    for place, (state, row) in enumerate(alone):
        assert_close(run_of(many, place), state, rtol=1e-9, atol=1e-10)
        assert_close(run_of(metrics, place), row, rtol=1e-9, atol=1e-10)
    assert len({round(loss, 6) for loss in metrics["loss"].tolist()}) == len(RUNS)
    assert (metrics["grad_norm"] > 0.3).any()


def test_in_float32_each_run_equals_the_run_alone_to_a_hundred_thousandth(objective):
    (many, metrics), alone = together_and_alone(objective, RUNS[1:3], torch.float32)
    for place, (state, row) in enumerate(alone):
        assert_close(run_of(many, place).params, state.params, rtol=0, atol=1e-5)
        assert_close(run_of(metrics, place), row, rtol=1e-5, atol=1e-5)


def test_runs_with_one_seed_start_alike_and_drop_alike(objective):
    runs = [(1e-3, 0.1, 7), (1e-3, 0.1, 7), (1e-3, 0.1, 8)]
    state = init_sweep(objective, optimizers(runs), keys(runs))
    assert same(run_of(state.params, 0), run_of(state.params, 1))
    _, metrics = make_sweep_step(objective, optimizers(runs))(state, batch_of(0))
    torch.testing.assert_close(metrics["loss"][0], metrics["loss"][1])
    assert (metrics["loss"][0] - metrics["loss"][2]).abs() > 1e-3


def test_only_the_key_tells_apart_runs_that_start_alike(objective):
    """The fourth run, with the first one's params, drops other paths."""
    state = init_sweep(objective, optimizers(), keys())
    alike = attrs.evolve(state, params=tree.map(lambda p: p[:1].expand_as(p).clone(), state.params))
    losses = make_sweep_step(objective, optimizers())(alike, batch_of(0))[1]["loss"]
    torch.testing.assert_close(losses[0], losses[1])
    assert (losses[0] - losses[3]).abs() > 1e-3


def test_the_step_is_a_pure_function(objective):
    state, batch = init_sweep(objective, optimizers(), keys()), batch_of(0)
    new, metrics = assert_pure(make_sweep_step(objective, optimizers()), state, batch)
    assert not any(t.requires_grad for t in tree.flatten({"state": new, "metrics": metrics}).values())


def test_a_donated_state_gives_the_same_and_keeps_its_storage(objective):
    state = init_sweep(objective, optimizers(), keys())
    expected, _ = make_sweep_step(objective, optimizers())(state, batch_of(0))
    places = [leaf.data_ptr() for leaf in tree.leaves(state.params)]
    found, _ = make_sweep_step(objective, optimizers(), donate=True)(state, batch_of(0))
    assert same(found, expected)
    assert [leaf.data_ptr() for leaf in tree.leaves(found.params)] == places


def test_a_metric_that_only_some_runs_have_is_left_out(objective):
    """One run's weight decay is scheduled, the other's is not."""
    pair = [adamw(1e-3, weight_decay=cosine(0.1, 0, STEPS)), adamw(1e-3)]
    _, metrics = make_sweep_step(objective, pair)(init_sweep(objective, pair, [key(3), key(4)]), batch_of(0))
    assert set(metrics) == {"loss", "top1", "lr", "grad_norm", "skipped"}


def test_an_optimizer_without_a_state_will_do(objective):
    class Descent:
        def init(self, params):
            return {}

        def update_(self, params, grads, state, *, skip=None):
            for value, grad in zip(tree.leaves(params), tree.leaves(grads), strict=True):
                value.sub_(0.1 * grad.where(~skip, 0))
            return {}

    pair = [Descent(), Descent()]
    state = init_sweep(objective, pair, [key(3), key(4)])
    found, _ = make_sweep_step(objective, pair)(state, batch_of(0))
    alone, _ = make_step(objective, pair[1])(init_state(objective, pair[1], key(4)), batch_of(0))
    assert_close(run_of(found.params, 1), alone.params)


@pytest.mark.filterwarnings("error:There is a performance drop")
def test_no_operation_falls_back_to_a_loop_over_runs(objective):
    make_sweep_step(objective, optimizers())(init_sweep(objective, optimizers(), keys()), batch_of(0))


def test_the_choice_of_attention_ends_with_the_step():
    fused = torch.backends.cuda.flash_sdp_enabled()
    with vmappable_attention(torch.device("cpu")):
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == fused


def test_optimizers_of_several_kinds_are_refused(objective):
    @attrs.frozen
    class Other:
        """Never asked for anything."""

    with pytest.raises(ValueError, match="AdamW and Other; sweep each kind apart"):
        init_sweep(objective, [*optimizers(RUNS[:1]), Other()], keys(RUNS[:2]))


def test_a_sweep_of_no_run_or_of_other_seeds_than_runs_is_refused(objective):
    with pytest.raises(ValueError, match="0 optimizers and 0 seeds"):
        init_sweep(objective, [], [])
    with pytest.raises(ValueError, match="4 optimizers and 3 seeds"):
        init_sweep(objective, optimizers(), keys()[:3])


def test_the_state_of_one_run_or_of_another_sweep_is_refused(objective):
    step = make_sweep_step(objective, optimizers())
    for state in (init_state(objective, optimizers()[0], key(3)), init_sweep(objective, optimizers()[:2], keys()[:2])):
        with pytest.raises(ValueError, match="not one of 4 runs"):
            step(state, batch_of(0))
