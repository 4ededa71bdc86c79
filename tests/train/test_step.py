"""The step is a pure function, survives what is not finite, and means the same however the batch is worked off."""

import math

import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipAdaptive, ClipNorm, ClipValue
from blocks.optim.schedule import linear
from blocks.random import key
from blocks.train.loss_scale import LossScale
from blocks.train.step import init_state, make_step
from tests.train.small_problem import assert_close, batch_of, net, same, setup

ALL = {"accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.9}
EVERY = [{"ema_decay": 0.9}, ALL, *({**ALL, "precision": half} for half in ("bfloat16", "float16"))]


def run(step, state, steps=3):
    for number in range(steps):
        state, metrics = step(state, batch_of(seed=number))
    return state, metrics


@pytest.mark.parametrize("knobs", EVERY)
def test_the_step_is_a_pure_function(knobs):
    objective, optimizer, state = setup(precision=knobs.get("precision", "float32"))
    step, batch = make_step(objective, optimizer, **knobs), batch_of()
    before, given = tree.clone(state), tree.clone(batch)
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    one, two = step(state, batch), step(state, batch)
    assert same(one[0], two[0])
    assert same(one[1], two[1])
    assert same(state, before)
    assert same(batch, given)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not same(one[0].params, state.params)


@pytest.mark.parametrize("knobs", EVERY)
def test_a_donated_state_gives_the_same_and_keeps_its_storage(knobs):
    objective, optimizer, state = setup(precision=knobs.get("precision", "float32"))
    pure = run(make_step(objective, optimizer, **knobs), state)
    donated = tree.clone(state)
    places = {n: t.data_ptr() for n, t in tree.flatten(donated.params).items()}
    result = run(make_step(objective, optimizer, donate=True, **knobs), donated)
    assert same(result[0], pure[0])
    assert same(result[1], pure[1])
    assert {n: t.data_ptr() for n, t in tree.flatten(result[0].params).items()} == places


def test_a_donating_step_sees_that_it_got_another_state():
    """It keeps leaf copies of the state that it updates; a new state, or a leaf put in by hand, needs new ones."""
    objective, optimizer, state = setup(ema=False)
    other = init_state(objective, optimizer, key(77))
    pure, donating = make_step(objective, optimizer), make_step(objective, optimizer, donate=True)
    donating(tree.clone(state), batch_of())
    first, _ = donating(tree.clone(other), batch_of())
    assert same(first, pure(other, batch_of())[0])
    first.params["fc2"]["weight"] = torch.zeros(5, 16)
    expected = pure(first, batch_of())[0]
    assert same(donating(first, batch_of())[0], expected)


def test_metrics_of_an_earlier_step_stay_when_the_state_is_donated():
    objective, optimizer, state = setup(ema=False)
    step = make_step(objective, optimizer, donate=True)
    state, first = step(state, batch_of())
    kept = tree.clone(first)
    step(state, batch_of(seed=1))
    assert same(first, kept)


def test_no_tensor_of_the_result_carries_a_graph():
    objective, optimizer, state = setup()
    state, metrics = make_step(objective, optimizer, **ALL)(state, batch_of())
    assert not any(t.requires_grad for t in tree.flatten({"state": state, "metrics": metrics}).values())


def test_metrics_are_scalars_with_loss_rate_norm_and_the_objectives_own():
    objective, optimizer, state = setup(ema=False)
    _, metrics = make_step(objective, optimizer)(state, batch_of())
    assert set(metrics) == {"loss", "lr", "grad_norm", "skipped", "top1"}
    assert all(value.shape == () for value in metrics.values())
    assert metrics["lr"] == 1e-3


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    """Dropout too: a sample's mask follows from its index."""
    objective, optimizer, state = setup(objective=Supervised(net(), 0.1), ema=False)
    whole = run(make_step(objective, optimizer), state)
    for parts in (2, 4):
        halves = run(make_step(objective, optimizer, accumulate=parts), state)
        assert_close(halves[0].params, whole[0].params, atol=2e-6, rtol=1e-5)
        assert_close(halves[1], whole[1], atol=1e-5, rtol=1e-5)


def test_without_an_index_samples_are_numbered_in_order():
    objective, optimizer, state = setup(ema=False)
    batch = batch_of()
    bare = {name: value for name, value in batch.items() if name != "index"}
    step = make_step(objective, optimizer, accumulate=2)
    assert same(step(state, batch)[0], step(state, bare)[0])


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"clip_norm": -1.0}, r"clip_norm -1.0 is not above 0; to clip nothing, give None \(on the command line 0\)"),
        ({"clip_norm": math.nan}, "clip_norm nan is not above 0"),
        ({"ema_decay": -1.0}, r"ema_decay -1.0 is not in \[0, 1\); to keep no average, give None .*command line 0\)"),
        ({"ema_decay": 1}, "ema_decay 1 is not"),
        ({"ema_decay": math.nan}, "ema_decay nan is not"),
        ({"ema_decay": linear(0.9, 1.1, 3)}, r"ema_decay Linear\(start=0.9, end=1.1, total_steps=3\) is not"),
    ],
)
def test_no_clipping_and_no_average_are_told_as_both_callers_write_them(knobs, told):
    objective, optimizer, _ = setup(ema=False)
    with pytest.raises(ValueError, match=told):
        make_step(objective, optimizer, **knobs)


def test_a_batch_that_does_not_divide_is_refused():
    objective, optimizer, state = setup(ema=False)
    with pytest.raises(ValueError, match=r"batch of 8 .* in 3 equal parts"):
        make_step(objective, optimizer, accumulate=3)(state, batch_of())


def test_clipping_bounds_the_update_and_reports_the_norm_before_it():
    objective, optimizer = setup(ema=False)[0], Descent()
    state = init_state(objective, optimizer, key(3))
    free, metrics = make_step(objective, optimizer)(state, batch_of())
    clipped, same_metrics = make_step(objective, optimizer, clip_norm=0.01)(state, batch_of())
    assert metrics["grad_norm"] == same_metrics["grad_norm"] > 0.01
    assert moved(clipped, state) == pytest.approx(0.01, rel=1e-3)
    assert moved(free, state) == pytest.approx(metrics["grad_norm"].item(), rel=1e-3)


def test_any_clip_stands_between_gradient_and_optimizer():
    objective, optimizer = setup(ema=False)[0], Descent()
    state = init_state(objective, optimizer, key(3))
    free, _ = make_step(objective, optimizer)(state, batch_of())
    gradient = tree.map(torch.sub, state.params, free.params)
    by_value, _ = make_step(objective, optimizer, clip=ClipValue(0.01))(state, batch_of())
    assert_close(by_value.params, tree.map(lambda p, g: p - g.clamp(-0.01, 0.01), state.params, gradient))
    named, _ = make_step(objective, optimizer, clip=ClipNorm(0.01))(state, batch_of())
    short, _ = make_step(objective, optimizer, clip_norm=0.01)(state, batch_of())
    assert same(named, short)
    adaptive = ClipAdaptive(0.01, exempt=("fc2.*",))
    units, _ = make_step(objective, optimizer, clip=adaptive)(state, batch_of())
    assert same(units.params["fc2"], free.params["fc2"])
    moves = (units.params["fc1"]["weight"] - state.params["fc1"]["weight"]).norm(dim=1)
    assert (moves <= 0.0101 * state.params["fc1"]["weight"].norm(dim=1).clamp(min=1e-3)).all()
    assert not same(units.params["fc1"], free.params["fc1"])


class Descent:
    """Gradient descent with rate 1: the smallest optimizer that the contract allows."""

    def init(self, params):
        return {}

    def update_(self, params, grads, state, *, skip=None):
        for value, grad in zip(tree.flatten(params).values(), tree.flatten(grads).values(), strict=True):
            value.sub_(grad.where(~skip, 0))
        return {}


def moved(new, old):
    pairs = zip(tree.flatten(new.params).values(), tree.flatten(old.params).values(), strict=True)
    return torch.stack([(a - b).norm() for a, b in pairs]).norm().item()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_not_finite_changes_nothing_but_the_clock(bad, donate, accumulate):
    objective, optimizer, state = setup()
    step = make_step(objective, optimizer, ema_decay=0.9, accumulate=accumulate, clip_norm=1.0, donate=donate)
    state, _ = step(state, batch_of())
    before = tree.clone(state)
    broken = batch_of(seed=1)
    broken["images"][0, 0, 0, 0] = bad
    for times in (1, 2):
        state, metrics = step(state, broken)
        assert metrics["skipped"] == state.skipped == times
        assert not metrics["loss"].isfinite()
        assert state.step == 1 + times
        for part in ("params", "optimizer", "ema", "memory", "key"):
            assert same(getattr(state, part), getattr(before, part)), part
    state, metrics = step(state, batch_of(seed=2))
    assert metrics["skipped"] == state.skipped == 0
    assert not same(state.params, before.params)
    assert all(t.isfinite().all() for t in tree.flatten(state).values())


def test_an_infinite_gradient_under_a_finite_loss_is_skipped_too():
    class Root:
        """sqrt has an infinite slope at 0."""

        draws = False

        def init(self, key):
            return {"w": torch.zeros(2)}, {}

        def loss(self, params, memory, batch, key):
            return params["w"].sqrt().sum(), memory, {}

    objective, optimizer, state = setup(objective=Root(), ema=False)
    new, metrics = make_step(objective, optimizer)(state, batch_of())
    assert metrics["loss"] == 0
    assert metrics["skipped"] == 1
    assert same(new.params, state.params)


def test_memory_passes_from_one_part_of_the_batch_to_the_next():
    objective, optimizer, state = setup(ema=False)
    state, _ = make_step(objective, optimizer, accumulate=4)(state, batch_of())
    assert state.memory["seen"] == 4
    assert same(state.memory["frozen"], torch.ones(2, 2))
    torch.testing.assert_close(state.memory["mean"], batch_of()["images"][6:].mean((0, 2, 3)))


def test_parameters_without_a_gradient_stay_where_weight_decay_does_not_reach():
    objective, optimizer, state = setup(ema=False)
    new, _ = run(make_step(objective, optimizer), state)
    assert same(new.params["spare"]["bias"], state.params["spare"]["bias"])


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_masters():
    objective, optimizer, state = setup(rate=0.0)
    half, metrics = run(make_step(objective, optimizer, ema_decay=0.9, precision="bfloat16"), state)
    for leaf in tree.flatten({"p": half.params, "e": half.ema, "m": half.optimizer["exp_avg"]}).values():
        assert leaf.dtype == torch.float32
    assert metrics["loss"].dtype == torch.float32


def test_the_gradient_in_bfloat16_is_within_its_rounding_of_the_full_one():
    """bfloat16 has 8 bits: 0.4 % a rounding."""
    objective, optimizer = setup(rate=0.0)[0], Descent()
    state = init_state(objective, optimizer, key(3))
    full, _ = make_step(objective, optimizer)(state, batch_of())
    half, _ = make_step(objective, optimizer, precision="bfloat16")(state, batch_of())
    assert 0 < moved(half, full) < 0.02 * moved(full, state)


def test_the_average_of_the_params_follows_them():
    objective, optimizer, state = setup()
    assert same(state.ema, state.params)
    new, _ = make_step(objective, optimizer, ema_decay=0.75)(state, batch_of())
    expected = tree.map(lambda old, p: 0.75 * old + 0.25 * p, state.ema, new.params)
    assert_close(new.ema, expected)


def test_the_average_s_decay_may_follow_a_schedule_of_the_step():
    objective, optimizer, state = setup()
    step = make_step(objective, optimizer, ema_decay=linear(0.5, 0.9, 4))
    for number, decay in enumerate((0.5, 0.6, 0.7)):
        new, metrics = step(state, batch_of(seed=number))
        expected = tree.map(lambda old, p, d=decay: d * old + (1 - d) * p, state.ema, new.params)
        assert_close(new.ema, expected)
        assert metrics["ema_decay"] == pytest.approx(decay)
        state = new


def test_a_scheduled_weight_decay_is_among_the_metrics():
    objective, _, _ = setup()
    optimizer = adamw(1e-3, weight_decay=linear(0.1, 0.2, 10))
    _, metrics = make_step(objective, optimizer)(init_state(objective, optimizer, key(3)), batch_of())
    assert metrics["weight_decay"] == pytest.approx(0.1)


def test_after_a_skip_the_step_names_the_params_whose_gradient_is_not_finite():
    objective, optimizer, state = setup(ema=False)
    broken, step = batch_of(), make_step(objective, optimizer, accumulate=2, donate=True)
    broken["images"][0] = torch.nan
    state, _ = step(state, broken)
    before = tree.clone(state)
    assert step.broken(state, broken) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert step.broken(state, batch_of()) == []
    assert same(state, before)


def test_the_key_stays_and_the_numbers_change_with_the_step():
    objective, _, _ = setup(rate=0.5, ema=False)
    step, state = make_step(objective, Still()), init_state(objective, Still(), key(3))
    one, first = step(state, batch_of())
    _, second = step(one, batch_of())
    assert torch.equal(one.key, state.key)
    assert first["loss"] != second["loss"]


class Still(Descent):
    """Never moves."""

    def update_(self, params, grads, state, *, skip=None):
        return {}


def test_an_objective_that_draws_nothing_gets_no_key():
    class Keyless(Supervised):
        def loss(self, params, memory, batch, key):
            assert key is None
            return super().loss(params, memory, batch, key)

    objective, optimizer, state = setup(objective=Keyless(net(0.0)), ema=False)
    make_step(objective, optimizer)(state, batch_of())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"accumulate": 0}, "accumulate 0"),
        ({"clip_norm": 0.0}, r"clip_norm 0\.0"),
        ({"ema_decay": 1.0}, r"ema_decay 1\.0"),
        ({"precision": "float8"}, "float32, bfloat16"),
        ({"loss_scale": LossScale()}, "precision=.float16., and it is .float32."),
        ({"clip": ClipValue(1.0), "clip_norm": 1.0}, r"clip ClipValue\(max=1.0\) and clip_norm 1.0 are both given"),
    ],
)
def test_impossible_knobs_are_refused_when_the_step_is_made(knobs, message):
    objective, optimizer, _ = setup()
    with pytest.raises(ValueError, match=message):
        make_step(objective, optimizer, **knobs)


@pytest.mark.parametrize("ema", [True, False])
def test_a_state_and_a_step_that_disagree_about_the_average_are_an_error(ema):
    objective, optimizer, state = setup(ema=ema)
    with pytest.raises(ValueError, match="ema_decay"):
        make_step(objective, optimizer, ema_decay=None if ema else 0.9)(state, batch_of())
