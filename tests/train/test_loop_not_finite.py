"""What the loop makes of losses that are not finite."""

import json
import math
from functools import partial

import pytest

from blocks import tree
from blocks.runs import checkpoint
from blocks.train import loop
from blocks.train.readings import Readings
from tests.train.tiny import ValData, ask_to_stop, assert_same, spoilt, train


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


def test_a_last_update_that_is_skipped_is_saved_for_the_run_is_whole(tmp_path):
    assert train(tmp_path, train_data=spoilt(11)).finished
    assert list(checkpoint.steps(tmp_path)) == [9, 12]


def stopped_at_a_skipped_step():
    data = ask_to_stop(4)
    poison = data.poison
    data.poison = lambda step, images: poison(step, images) * (math.nan if step == 4 else 1.0)
    return data


def test_a_stop_at_a_skipped_update_saves_what_the_run_has(tmp_path):
    straight = train(tmp_path / "straight", train_data=spoilt(4))
    stopped = train(tmp_path / "cut", train_data=stopped_at_a_skipped_step())
    assert list(checkpoint.steps(tmp_path / "cut")) == [3, 5]
    assert int(stopped.state.skipped) == 1
    assert_same(train(tmp_path / "cut").state, straight.state)


@pytest.mark.parametrize(("lag", "told"), [(0, "norm nan (not finite: head.weight"), (8, "norm nan; ")])
def test_where_a_skip_is_read_late_only_one_that_lasts_is_put_down_to_params(tmp_path, capsys, monkeypatch, lag, told):
    monkeypatch.setattr(loop, "Readings", partial(Readings, lag=lag))
    train(tmp_path / "once", train_data=spoilt(1), epochs=4)
    assert f"step 2: loss nan, gradient {told}" in capsys.readouterr().out
    with pytest.raises(FloatingPointError, match=r"not finite: head\.weight"):
        train(tmp_path / "on", train_data=spoilt(*range(2, 24)), epochs=8)
