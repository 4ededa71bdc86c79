"""What the loop makes of losses that are not finite."""

import json
import math

import pytest

from blocks import tree
from blocks.runs import checkpoint
from tests.train.tiny import ValData, ask_to_stop, spoilt, train


def test_a_loss_that_is_not_finite_is_told_and_the_run_goes_on(tmp_path, capsys):
    result = train(tmp_path, train_data=spoilt(4), val_data=ValData())
    assert "step 5: loss nan" in capsys.readouterr().out
    assert result.finished
    assert int(result.state.memory["seen"]) == 11
    assert all(t.isfinite().all() for t in tree.flatten(result.state.params).values())
    assert math.isfinite(result.history[1]["train_loss"])
    json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[5], parse_constant=pytest.fail)  # no bare NaN


def test_too_many_losses_that_are_not_finite_stop_the_run_and_no_checkpoint_of_them_is_kept(tmp_path):
    with pytest.raises(FloatingPointError, match=r"stopped at step 7: loss nan.* 3 skipped updates in a row"):
        train(tmp_path, train_data=spoilt(*range(4, 12)), max_skipped=3, checkpoint_every_steps=1)
    assert list(checkpoint.steps(tmp_path)) == [3, 4]


def test_an_asked_stop_keeps_no_checkpoint_of_a_broken_stretch(tmp_path):
    data = ask_to_stop(4)
    poison = data.poison
    data.poison = lambda step, images: poison(step, images) * (math.nan if step == 4 else 1.0)
    train(tmp_path, train_data=data)
    assert list(checkpoint.steps(tmp_path)) == [3]
