"""The loop in one process: what it does, tells and refuses."""

import json
import signal
import time

import pytest

from blocks import random
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipValue
from blocks.runs import checkpoint
from blocks.runs.records import read
from blocks.runs.run import Run
from blocks.train.loss_scale import LossScale
from blocks.train.step import init_state, make_step
from tests.train.tiny import IMAGES, Classifier, Remembering, TrainData, ValData, assert_same, train

HALF = {"precision": "float16", "loss_scale": LossScale(1024.0, growth_interval=3), "frozen": ("*.bias",)}


def test_a_run_counts_logs_and_evaluates_every_epoch(tmp_path):
    result = train(tmp_path, val_data=ValData())
    assert result.finished
    assert int(result.state.step) == 12
    assert int(result.state.memory["seen"]) == 12
    records = read(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records if r["kind"] == "step"] == list(range(1, 13))
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert epochs == result.history
    assert [(r["epoch"], r["step"], r["images"]) for r in epochs] == [(e, 3 * e, IMAGES) for e in (1, 2, 3, 4)]
    mean = sum(r["loss"] for r in records if r["kind"] == "step" and r["step"] > 9) / 3
    assert epochs[-1]["train_loss"] == pytest.approx(mean, rel=1e-12)
    assert epochs[-1]["val_images"] == 10
    assert epochs[-1]["val_loss"] != epochs[-1]["ema_loss"]


@pytest.mark.parametrize("knobs", [{"clip_norm": 0.01}, {"clip": ClipValue(0.01), "accumulate": 2, **HALF}])
def test_a_run_is_its_step_again_and_again_with_all_that_the_step_is_given(tmp_path, knobs):
    objective, optimizer, start = Remembering(Classifier()), adamw(1e-2), Classifier().init(random.key(40))
    result = train(tmp_path, optimizer=optimizer, params=start, **{"clip_norm": None, "ema_decay": 0.5} | knobs)
    step = make_step(objective, optimizer, ema_decay=0.5, **knobs)
    begins = {name: knobs[name] for name in HALF if name in knobs}
    state = init_state(objective, optimizer, random.key(3), ema=True, params=start, **begins)
    for batch, _ in zip(TrainData().batches(), range(12), strict=False):
        state, _ = step(state, batch)
    assert_same(result.state, state)


def test_a_run_ends_its_data_stream_and_gives_the_signal_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    data = TrainData()
    train(tmp_path, epochs=1, train_data=data)
    assert data.closed
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_terminal_there_is_one_line_an_epoch_and_a_table(tmp_path, capsys):
    train(tmp_path, val_data=ValData())
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines if line.startswith("epoch")] == [f"epoch   {e}" for e in (1, 2, 3, 4)]
    assert "val top-1" in lines[1]
    assert "EMA top-1" in lines[1]
    assert len(lines) < 20


def test_checkpoints_come_every_epoch_and_every_n_steps(tmp_path):
    train(tmp_path, epochs=2, checkpoint_every_steps=2, keep=9)
    assert list(checkpoint.steps(tmp_path)) == [2, 3, 4, 6]


def test_unreadable_images_are_named_once(tmp_path, capsys):
    data = TrainData()
    data.skipped["shard-3.tar: cat.jpg"] = "truncated"
    train(tmp_path, epochs=2, train_data=data)
    assert capsys.readouterr().out.count("shard-3.tar: cat.jpg (truncated)") == 1


def test_unreadable_images_of_an_own_evaluation_are_named_too(tmp_path, capsys):
    def evaluate(params):
        return {"score": 1.0}

    evaluate.val_data = ValData()
    evaluate.val_data.skipped = {"shard-0.tar: dog.jpg": "truncated"}
    train(tmp_path, epochs=1, evaluate=evaluate)
    assert "unreadable, left out: shard-0.tar: dog.jpg (truncated)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["epochs", "log_every", "max_skipped"])
def test_counts_below_one_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} 0 is not a count"):
        train(tmp_path, optimizer=adamw(1e-2), **{name: 0})
    assert not list(tmp_path.iterdir())


def test_the_folder_says_which_model_saw_which_images_and_the_epoch_how_long_the_run_waited_for_them(tmp_path):
    def slow(step, images):
        time.sleep(0.1)
        return images

    data, val_data = TrainData(poison=slow), ValData()
    data.description, val_data.description = {"source": "a"}, {"source": "b"}
    result = train(tmp_path, epochs=1, train_data=data, val_data=val_data)
    assert Run.open(tmp_path).images == {"train": {"source": "a"}, "val": {"source": "b"}}
    assert json.loads((tmp_path / "model.json").read_text())["params"] == ["head.weight", "head.bias"]
    assert result.history[0]["waited_seconds"] > 0.3
    assert not (tmp_path / "report").exists()


def test_too_many_unreadable_images_end_the_run(tmp_path):
    """As the loader says, of what all processes met; it is asked after every epoch."""
    data, asked = TrainData(), []
    data.skipped = {"a": "torn"}
    data.check_unreadable = lambda skipped: asked.append(dict(skipped)) if len(asked) < 2 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, train_data=data)
    assert asked == [{"a": "torn"}] * 2


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/run cannot be written to"):
        train(tmp_path / "file" / "run")
