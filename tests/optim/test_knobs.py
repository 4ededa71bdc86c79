"""What is no number for a rule, a schedule or a clip is refused where it is given, with its value."""

import math

import pytest

from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipAdaptive, ClipNorm, ClipValue
from blocks.optim.composite import composite, per_epoch
from blocks.optim.lamb import lamb
from blocks.optim.lars import lars
from blocks.optim.lion import lion
from blocks.optim.muon import muon
from blocks.optim.schedule import (
    constant,
    cosine,
    ends,
    inverse_sqrt,
    linear,
    scaled_lr,
    step_decay,
    warmup_cosine,
)
from blocks.optim.sgd import sgd

NAN = math.nan
RULES = {"adamw": adamw, "lamb": lamb, "lars": lars, "lion": lion, "muon": muon, "sgd": sgd}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("rate", [-1.0, NAN, "fast", cosine(0.1, -0.1, 9), constant(NAN)])
def test_a_rate_or_a_decay_below_0_is_refused(rule, rate):
    with pytest.raises(ValueError, match=r"the rate .* must not be negative"):
        rule(rate)
    with pytest.raises(ValueError, match=r"weight_decay .* must not be negative"):
        rule(0.1, weight_decay=rate)
    with pytest.raises(ValueError, match=r"'head.\*': -2, which must not be negative"):
        rule(0.1, lr_scales={"head.*": -2})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamw(0.1, betas=(0.9,)), r"betas \(0.9,\) are not two numbers in \[0, 1\)"),
        (lambda: adamw(0.1, betas=0.9), "betas 0.9 are not two numbers"),
        (lambda: adamw(0.1, betas=(0.9, NAN)), "nan"),
        (lambda: lion(0.1, betas=("a", "b")), "'a', 'b'"),
        (lambda: adamw(0.1, eps=-1), "eps -1 must not be negative"),
        (lambda: lamb(0.1, eps=0), "eps 0 is not above 0"),
        (lambda: lars(0.1, trust=NAN), "trust nan is not above 0"),
        (lambda: sgd(0.1, momentum=1.0), r"momentum 1.0 is not in \[0, 1\)"),
        (lambda: sgd(0.1, momentum=1.5), r"momentum 1.5 is not in \[0, 1\)"),
        (lambda: sgd(0.1, momentum=NAN), r"momentum nan is not in \[0, 1\)"),
        (lambda: muon(0.1, momentum=-0.1), "momentum -0.1"),
        (lambda: muon(0.1, iterations=0), "iterations 0 is not a count; use a whole number, 1 or more"),
        (lambda: ClipNorm(NAN), "max_norm nan is not above 0; to clip nothing, give no clip"),
        (lambda: ClipValue("x"), "max 'x'"),
        (lambda: ClipAdaptive(math.inf), "factor inf"),
        (lambda: warmup_cosine(NAN, 1, 9), "peak nan"),
        (lambda: warmup_cosine(1.0, 9, 3), r"warmup_steps 9 .* total_steps 3; .* --warmup-epochs, --epochs"),
        (lambda: linear(1.0, 0.0, 0), "total_steps 0 is not a number of steps"),
        (lambda: cosine(1.0, 0.0, -3), "total_steps -3 is not a number of steps"),
        (lambda: inverse_sqrt(1.0, 0), "warmup_steps 0"),
        (lambda: step_decay(1.0, every=0), "every 0"),
        (lambda: per_epoch(constant(1.0), 0), "steps_per_epoch 0"),
        (lambda: scaled_lr(-1.0, 8, per=512), "lr -1.0"),
        (lambda: scaled_lr(0.1, 0, per=512), "batch_size 0"),
        (lambda: scaled_lr(0.1, 8, per=0), "per 0"),
    ],
)
def test_what_is_no_such_number_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_says_between_which_numbers_it_runs():
    assert ends(0.3) == (0.3,)
    assert ends(constant(0.3)) == (0.3,)
    assert ends(lambda step: step) == ()
    assert ends(linear(0.1, 0.2, 3)) == ends(cosine(0.1, 0.2, 3)) == (0.1, 0.2)
    assert ends(warmup_cosine(1.0, 1, 3, start=0.1, end=0.2)) == (0.1, 1.0, 0.2)
    assert ends(step_decay(1.0, 0.5, milestones=(2, 4))) == (1.0, 0.25)
    assert [ends(step_decay(1.0, gamma, every=2))[1] for gamma in (0.5, 1.0, 2.0)] == [0.0, 1.0, math.inf]
    assert ends(inverse_sqrt(1.0, 3)) == (0.0, 1.0, 0.0)
    assert ends(composite([constant(1.0), per_epoch(constant(2.0), 2)], [0.5, 0.5], 4)) == (1.0, 2.0)
