"""A plain function of the step is a schedule, wherever one may be given."""

import math

import pytest
import torch

from blocks.objectives.dino import DINO
from blocks.optim.adamw import adamw
from blocks.optim.composite import composite, per_epoch
from blocks.optim.own_schedule import OwnSchedule
from blocks.optim.schedule import cosine, linear
from blocks.optim.sgd import sgd
from tests.optim.table import params_of, run, same


class Halving:
    """A class of one's own, without `ends`."""

    def __call__(self, step):
        return 1e-2 * 0.5**step


FUNCTIONS = {
    "a float": lambda step: 1e-2,
    "an int": lambda step: 1,
    "a branch": lambda step: 1e-2 if step < 2 else 1e-3,
    "math": lambda step: 1e-2 * (1 + math.cos(step / 10)),
    "a float32": lambda step: torch.tensor(1e-2) / (1 + step),
    "a list": lambda step: [1e-2, 2e-2, 3e-2][step],
    "a class": Halving(),
}


@pytest.mark.parametrize("rule", [adamw, sgd])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_an_update_takes_its_rate_and_decay_from_any_function(rule, function):
    optimizer = rule(function, weight_decay=function)
    params = params_of(0)
    state = optimizer.init(params)
    told = [optimizer.update_(params, params_of(1), state) for _ in range(3)]
    for row, wanted in zip(told, map(function, range(3)), strict=True):
        for value in (row["lr"], row["weight_decay"]):
            assert value.dtype == torch.float64
            assert value.shape == ()
            assert value.item() == pytest.approx(float(wanted), rel=1e-6)  # float32's own rounding


def test_a_function_of_ours_gives_the_same_update_wrapped_or_not():
    ours = linear(1e-2, 1e-3, 5)
    one, two = (run(adamw(schedule), params_of(0)) for schedule in (ours, lambda step: ours(step)))
    assert same({"p": one[0], "s": one[1]}, {"p": two[0], "s": two[1]})


def test_its_value_lies_where_the_step_does():
    for function in (FUNCTIONS["a float"], FUNCTIONS["a float32"]):
        assert OwnSchedule(function)(torch.tensor(4, device="meta")).device.type == "meta"


def test_it_may_be_a_stage_and_move_by_epochs():
    stages = composite([lambda step: step / 10, lambda step: 0.5], [0.5, 0.5], 10)
    assert [stages(step).item() for step in (0, 2, 7)] == [0.0, 0.4, 0.5]
    assert per_epoch(lambda step: float(step), 4)(7).item() == 4.0


@pytest.mark.parametrize("make", [adamw, lambda f: adamw(0.1, weight_decay=f), lambda f: per_epoch(f, 2)])
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda step: None, r"gives None at step 0; a finite number is wanted"),
        (lambda step: math.nan, "gives nan at step 0; a finite"),
        (lambda step: 1 / step, r"gives tensor\(inf\) at step 0; a finite"),
        (lambda step: torch.ones(1), r"gives a tensor \[1\] at step 0; one number is wanted, a float or a tensor \[\]"),
        (lambda: 1e-3, r"cannot be called with a step alone: .* 0 positional arguments but 1 was given"),
        (lambda step, epoch: 1e-3, "cannot be called with a step .* missing 1 required"),
    ],
)
def test_what_gives_no_number_is_refused_where_it_is_given(make, function, said):
    with pytest.raises(ValueError, match=f"the schedule <function .*> {said}"):
        make(function)


def test_its_first_value_is_held_to_what_a_number_would_be():
    with pytest.raises(ValueError, match=r"the rate OwnSchedule.* must not be negative; .* or a function of the step"):
        adamw(lambda step: -1e-3)
    with pytest.raises(ValueError, match=r"weight_decay OwnSchedule.* must not be negative"):
        adamw(1e-3, weight_decay=lambda step: -1e-3)
    with pytest.raises(ValueError, match=r"momentum 2.0 of OwnSchedule.* is not in \[0, 1\]"):
        DINO(None, momentum=lambda step: 2)
    with pytest.raises(ValueError, match=r"teacher_temp OwnSchedule.* is not a temperature"):
        DINO(None, teacher_temp=lambda step: 0)


def test_a_schedule_of_ours_stays_what_it_is():
    ours = cosine(0.1, 0.0, 9)
    assert adamw(ours).schedule is ours
    assert isinstance(adamw(ours.__call__).schedule, OwnSchedule)
