"""A dry run tells all that a run would be, and leaves no trace."""

import itertools
import re

import attrs
import pytest
import torch

from blocks import random, tree
from blocks.objectives.supervised import Supervised
from blocks.optim.optimizer import Optimizer
from blocks.train import timing
from blocks.train.distributed import Processes
from blocks.train.loop import run
from blocks.train.options import RunOptions
from blocks.train.timing import affordable, timed
from blocks.trunks.convit import convit
from tests.train.pretraining import OBJECTIVES, TINY, Views, pretrain
from tests.train.tiny import TrainData, ValData, train


def told(capsys, folder, **knobs):
    """What a dry run says, blanks and table lines aside."""
    options = RunOptions(out=str(folder), dry_run=True)
    objective = Supervised(convit(**TINY, local_up_to_layer=1, num_classes=6))
    data = {"train_data": TrainData(), "val_data": ValData(), "objective": objective} | knobs
    result = train(None, options=options, seed=3, **data)
    assert not result.finished
    text = capsys.readouterr().out
    return " ".join("".join(" " if c in "┃│━─┏┓┗┛┡┩└┘┌┐├┤┼╇┴┳┻╈┬" else c for c in text).split())


def test_it_tells_model_optimizer_data_memory_and_time_and_writes_nothing(tmp_path, capsys):
    text = told(capsys, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert f"nothing is written. Its folder would be {tmp_path / 'run'}" in text
    assert "patch_embed 104 " in text  # 2 x 2 x 3 x 8 weights and 8 biases
    assert "weight decay 0.1" in text
    assert "no weight decay" in text
    assert "AdamW: rate 0 at first, 0.01 in step 3" in text
    assert "images [8, 3, 4, 4] float32" in text
    assert "epoch 3 steps" in text
    assert "activations" in text
    assert "average" in text
    assert "measured: 3 steps of 8 images" in text
    assert "the run" in text
    assert "4 epochs" in text


def test_bytes_are_of_the_state_and_add_up_and_times_are_those_of_a_step_again_and_again(tmp_path, capsys, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr(timing, "_now", lambda device: next(now))  # a step takes a second
    text = told(capsys, tmp_path / "run", frozen=["head.*"])
    rows = re.findall(r"(\w+) ([\d.]+) kB", text.split("memory of a process")[1])
    sizes = {name: float(number) for name, number in rows}
    count = tree.count(convit(**TINY, local_up_to_layer=1, num_classes=6).init(random.key(0)))
    trained = count - 6 * 9  # 8 weights and a bias for each class
    assert sizes["parameters"] == sizes["average"] == round(count * 4e-3, 1)
    assert sizes["gradients"] == round(trained * 4e-3, 1)
    assert sizes["optimizer"] == round(trained * 8e-3, 1)
    assert sizes["batch"] == round((8 * 3 * 4 * 4 * 4 + 2 * 8 * 8) * 1e-3, 1)
    assert sizes["sum"] == pytest.approx(sum(sizes.values()) / 2, abs=0.3)
    for said in ("a step 1.000 s, 8 images/s", "an epoch 3.0 s", "the run 12.0 s for 4 epochs"):
        assert said in text


def test_it_says_what_the_folder_holds_and_leaves_it(tmp_path, capsys):
    train(tmp_path, epochs=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert "would go on from step-00000003.pt; with --no-resume it would be refused" in told(capsys, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_counts_objectives_with_a_memory_and_stays_away_from_their_alarms(tmp_path, capsys, name):
    options = RunOptions(out=str(tmp_path / "run"), dry_run=True)
    pretrain(None, name, train_data=Views(), options=options)
    text = capsys.readouterr().out
    assert "the objective's memory" in text
    assert "GFLOPs a step" in text
    assert "not counted" not in text


def test_an_accumulated_step_keeps_one_micro_batchs_activations(tmp_path, capsys):
    whole, parts = (told(capsys, tmp_path, accumulate=count) for count in (1, 2))
    kept = [float(text.split("activations ")[1].split(" kB")[0]) for text in (whole, parts)]
    assert kept[1] == pytest.approx(kept[0] / 2, rel=0.05)
    flops = [float(text.split("arithmetic ")[1].split(" ")[0]) for text in (whole, parts)]
    assert flops[0] == flops[1]


def test_a_step_that_needs_numbers_is_timed_and_not_counted(tmp_path, capsys):
    @attrs.frozen
    class Peeking(Supervised):
        def loss(self, params, memory, batch, key):
            float(batch["images"].sum())
            return super().loss(params, memory, batch, key)

    text = told(capsys, tmp_path, objective=Peeking(convit(**TINY, local_up_to_layer=1, num_classes=6)))
    assert "FLOPs and activations of a step are not counted: " in text
    assert "beside activations, which could not be counted" in text
    assert "measured: 3 steps" in text


@attrs.frozen
class Own:
    """An optimizer of one's own, with no more than it must have."""

    schedule: float = 0.1

    def init(self, params):
        return {}

    def update_(self, params, grads, state, *, skip=None):
        return {}


@attrs.frozen
class OwnOptimizer(Optimizer):
    def init(self, params):
        return {}

    def update_(self, params, grads, state, *, skip=None):
        return {}


@pytest.mark.parametrize("optimizer", [Own(), OwnOptimizer()], ids=["plain", "Optimizer"])
def test_an_optimizer_of_ones_own_needs_no_description(optimizer, tmp_path, capsys):
    objective = Supervised(convit(**TINY, local_up_to_layer=1, num_classes=6))
    options = RunOptions(out=str(tmp_path / "run"), dry_run=True)
    run(objective, optimizer, TrainData(), epochs=1, processes=Processes(), options=options)
    text = capsys.readouterr().out
    assert f"the optimizer, {type(optimizer).__name__}" in text
    assert "updated" in text


@attrs.frozen(eq=False)
class Clock:
    step: torch.Tensor = attrs.field(factory=lambda: torch.zeros(()))


def test_too_large_a_batch_is_timed_on_fewer_images_in_proportion(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(timing, "_now", lambda device: next(now))
    sizes = []

    def step(state, batch):
        sizes.append(len(batch["images"]))
        return state, {}

    _, found = timed(step, Clock(), {"images": torch.zeros(64, 1)}, 8)
    assert sizes == [8] * 4
    assert (found.seconds, found.whole) == (1.0, 8.0)
    said = "measured: 3 steps of 8 of the 64 images of a process, 1 s each, times 8: too long rather than too short"
    assert found.how == said


def test_steps_that_warm_up_do_not_count(monkeypatch):
    now = iter([0, 3, 3, 5, 5, 7, 7, 8, 8, 9, 9, 10])
    monkeypatch.setattr(timing, "_now", lambda device: next(now))
    _, found = timed(lambda state, batch: (state, {}), Clock(), {"images": torch.zeros(8, 1)}, 8, warm=3)
    assert (found.seconds, found.steps) == (1.0, 3)


def test_an_objective_that_wants_more_images_gets_them():
    def step(state, batch):
        if len(batch["images"]) < 32:
            raise ValueError("a group of 32")
        return state, {}

    _, found = timed(step, Clock(), {"images": torch.zeros(64, 1)}, 8)
    assert found.images == 32
    with pytest.raises(ValueError, match="a group of 32"):
        timed(step, Clock(), {"images": torch.zeros(24, 1)}, 8)


def test_how_many_images_are_timed_follows_from_their_flops(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert affordable(256, timing.FLOPS_A_STEP, cpu) == 256
    assert affordable(256, 7 * timing.FLOPS_A_STEP, cpu) == 32
    assert affordable(256, 1e18, cpu) == timing.FEWEST
    assert affordable(256, 1e18, cpu, parts=8) == 8
    assert affordable(256, 1e18, gpu) == 256
