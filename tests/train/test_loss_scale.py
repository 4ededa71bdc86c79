"""Float16: small gradients survive, overflows lower the scale and change nothing else."""

import math

import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.random import key
from blocks.train.loss_scale import LossScale
from blocks.train.step import init_state, make_step
from tests.train.small_problem import Descent, assert_close, batch_of, moved, net, same, setup
from tests.train.tiny import ask_to_stop, assert_same, spoilt, train

HIGH = 2.0**40


def high(**knobs):
    return LossScale(**({"initial": HIGH, "ceiling": HIGH} | knobs))


def values(state):
    return state["scale"].item(), state["good_steps"].item()


def follow(scale, overflows):
    """(scale, good steps) after each step."""
    state, found = scale.init(), []
    for overflow in overflows:
        state = scale.next(state, torch.tensor(bool(overflow)))
        found.append(values(state))
    return found


def test_the_scale_doubles_after_the_interval_and_halves_at_an_overflow():
    scale = LossScale(initial=8.0, growth_interval=3)
    assert follow(scale, [0, 0, 0, 0, 1, 0, 1]) == [(8, 1), (8, 2), (16, 0), (16, 1), (8, 0), (8, 1), (4, 0)]


def test_the_scale_stays_between_floor_and_ceiling():
    scale = LossScale(initial=2.0, growth_interval=1, floor=1.0, ceiling=4.0)
    assert [value for value, _ in follow(scale, [1, 1, 1, 0, 0, 0, 0])] == [1, 1, 1, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"initial": 0.5}, r"floor 1.0, initial 0.5 and ceiling"),
        ({"ceiling": 8.0}, r"initial 65536.0 and ceiling 8.0"),
        ({"floor": 0.0}, r"floor 0.0"),
        ({"growth_interval": 0}, r"growth_interval 0"),
        ({"growth_interval": 2.5}, r"growth_interval 2.5 is not a count"),
        ({"initial": 1000.0}, r"initial 1000.0 is no power of two, and would round"),
        ({"ceiling": 3e5}, r"ceiling 300000.0"),
        ({"ceiling": math.inf}, r"ceiling inf"),
        ({"floor": True}, r"floor True is no power of two"),
    ],
)
def test_an_impossible_scale_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        LossScale(**knobs)


def half(scale=None, optimizer=None, **knobs):
    """(step, state) in float16."""
    objective, adam, _ = setup(rate=0.0)
    optimizer = optimizer or adam
    state = init_state(objective, optimizer, key(3), precision="float16", loss_scale=scale)
    return make_step(objective, optimizer, precision="float16", loss_scale=scale, **knobs), state


def test_the_gradient_in_float16_is_within_its_rounding_of_the_full_one():
    """float16 has 11 bits: 0.05 % a rounding."""
    step, state = half(optimizer=Descent())
    full, _ = make_step(setup(rate=0.0)[0], Descent())(init_state(setup(rate=0.0)[0], Descent(), key(3)), batch_of())
    new, metrics = step(state, batch_of())
    assert 0 < moved(new, full) < 0.0025 * moved(full, state)
    assert metrics["loss_scale"] == 2**16
    assert all(leaf.dtype == torch.float32 for leaf in tree.leaves(new.params))


class Faint:
    """A loss whose gradient, 1e-9, is zero in float16 unless it is scaled."""

    draws = False

    def init(self, key):
        return {"w": torch.ones(4)}, {}

    def loss(self, params, memory, batch, key):
        return (params["w"] * batch["x"]).float().sum() * 2.0**-30, memory, {}


def test_gradients_too_small_for_float16_survive():
    found = {}
    for scale in (LossScale(initial=1.0), LossScale()):
        state = init_state(Faint(), Descent(), key(0), precision="float16", loss_scale=scale)
        step = make_step(Faint(), Descent(), precision="float16", loss_scale=scale)
        found[scale.initial] = step(state, {"x": torch.ones(4)})[1]["grad_norm"].item()
    assert found == {1.0: 0.0, 2.0**16: 2.0 * 2.0**-30}


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_overflow_changes_nothing_but_the_scale_until_it_fits(donate, accumulate):
    step, state = half(high(), ema_decay=None, clip_norm=1.0, accumulate=accumulate, donate=donate)
    first, scale = tree.clone(state), HIGH
    for number in range(60):
        state, metrics = step(state, batch_of())
        assert metrics["loss"].isfinite()
        assert metrics["skipped"] == state.skipped == 0
        assert metrics["loss_scale"] == scale
        assert state.step == number + 1
        if metrics["grad_norm"].isfinite():
            break
        scale /= 2
        assert values(state.loss_scale) == (scale, 0)
        for part in ("params", "optimizer", "memory", "ema"):
            assert same(getattr(state, part), getattr(first, part)), part
    assert 3 < number < 59
    assert values(state.loss_scale) == (scale, 1)
    fits = LossScale(initial=scale, ceiling=HIGH)
    other, start = half(fits, clip_norm=1.0, accumulate=accumulate)
    assert same(state.params, other(start, batch_of())[0].params)


def test_an_overflow_at_the_floor_counts_as_a_skip():
    step, state = half(high(floor=HIGH / 2))
    counts = []
    for _ in range(3):
        state, metrics = step(state, batch_of())
        counts.append(int(metrics["skipped"]))
    assert counts == [0, 1, 2]


def test_a_loss_that_is_not_finite_counts_at_once_and_leaves_the_scale():
    step, state = half()
    broken = batch_of()
    broken["images"][0] = torch.nan
    state, metrics = step(step(state, batch_of())[0], broken)
    assert metrics["skipped"] == 1
    assert values(state.loss_scale) == (2**16, 1)


def test_the_scale_grows_after_the_interval_and_the_numbers_do_not_notice():
    """Powers of two round nothing where nothing is subnormal."""
    step, state = half(LossScale(initial=256.0, growth_interval=2))
    other, still = half(LossScale(initial=256.0))
    used = []
    for number in range(5):
        state, metrics = step(state, batch_of(seed=number))
        still, _ = other(still, batch_of(seed=number))
        used.append(metrics["loss_scale"].item())
    assert used == [256, 256, 512, 512, 1024]
    assert_close(state.params, still.params, atol=1e-5, rtol=1e-3)


def test_a_state_and_a_step_that_disagree_about_the_precision_are_an_error():
    objective, optimizer, state = setup(ema=False, objective=Supervised(net()))
    with pytest.raises(ValueError, match=r"the state has no loss_scale.*init_state\(..., precision=.float16.\)"):
        make_step(objective, optimizer, precision="float16")(state, batch_of())
    _, scaled = half()
    with pytest.raises(ValueError, match=r"the state has a loss_scale.*does not ask for it"):
        make_step(objective, optimizer)(scaled, batch_of())


def test_a_state_of_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision 'fp16' is unknown; there are float32, bfloat16, float16"):
        init_state(Supervised(net()), adamw(1e-3), key(0), precision="fp16")


FAST = {"precision": "float16", "loss_scale": LossScale(initial=2.0**18, growth_interval=3)}


def test_an_interrupted_run_in_float16_goes_on_to_the_same_state(tmp_path, capsys):
    straight = train(tmp_path / "straight", **FAST)
    assert "the gradient overflowed at loss scale" in capsys.readouterr().out
    assert straight.state.loss_scale["scale"] < 2.0**18
    assert "train_loss_scale" not in straight.history[-1]
    assert not train(tmp_path / "cut", train_data=ask_to_stop(4), **FAST).finished
    assert_same(train(tmp_path / "cut", **FAST).state, straight.state)


def test_a_run_may_go_on_in_another_precision(tmp_path):
    train(tmp_path, train_data=ask_to_stop(2))
    train(tmp_path, train_data=ask_to_stop(5), **FAST)
    assert train(tmp_path).finished


def test_a_broken_run_names_the_params_whose_gradient_is_not_finite(tmp_path, capsys):
    with pytest.raises(FloatingPointError, match=r"loss nan, .* \(not finite: head.weight, head.bias\), 2 skipped"):
        train(tmp_path, train_data=spoilt(*range(4, 12)), max_skipped=2, **FAST)
    assert (
        "step 5: loss nan, gradient norm nan (not finite: head.weight, head.bias); update skipped (1 of at most 2"
        in (capsys.readouterr().out)
    )
