"""What the step refuses when it is made."""

import math

import pytest

from blocks.optim.clip import ClipValue
from blocks.optim.schedule import linear
from blocks.train.loss_scale import LossScale
from blocks.train.step import make_step
from tests.train.small_problem import setup


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


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"accumulate": 0}, "accumulate 0"),
        ({"accumulate": "2"}, "accumulate '2' is not a number of micro-batches"),
        ({"clip_norm": "1"}, "clip_norm '1' is not above 0"),
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
