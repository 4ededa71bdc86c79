"""The time in which a run has no batch."""

import time

import torch

from blocks.runs.records import read
from blocks.train.readings import Readings
from blocks.train.waiting import mark, seconds_between
from tests.train.tiny import TrainData, train


def test_a_slow_loader_is_told_and_a_fast_one_has_no_part_in_it(tmp_path, capsys):
    def slowly(step, images):
        time.sleep(0.1)
        return images

    train(tmp_path / "slow", train_data=TrainData(poison=slowly), epochs=1)
    assert "waiting for data" in capsys.readouterr().out
    train(tmp_path / "fast", epochs=1)
    slow, fast = (read(tmp_path / name / "metrics.jsonl")[-1] for name in ("slow", "fast"))
    assert slow["waited_seconds"] >= 0.3
    assert fast["waited_seconds"] < 0.1
    assert slow["waited_seconds"] <= slow["seconds"]
    assert "train_waited" not in slow


def test_a_reading_brings_the_wait_for_its_batch():
    readings = Readings(torch.device("cpu"), 1, lag=1)
    for step in (1, 2):
        readings.put(step, {}, stop=False, waited=(10.0, 10.0 + step))
    assert list(readings.take()) == [(1, {"stop": 0.0, "waited": 1.0})]


def test_on_a_gpu_its_own_clock_tells():
    class Event:
        def __init__(self, at):
            self.at = at

        def elapsed_time(self, other):
            return other.at - self.at

    assert seconds_between(Event(1000.0), Event(1250.0)) == 0.25
    assert seconds_between(mark(torch.device("cpu")), mark(torch.device("cpu"))) >= 0
