"""Objectives that settle their memory after an update: in the step, in the loop, through a checkpoint."""

import math
from functools import partial

import attrs
import pytest
import torch

from blocks import key, tree
from blocks.block import Block
from blocks.layers.heads import ProjectionMlp
from blocks.layers.linear import Linear
from blocks.objectives.byol import BYOL
from blocks.objectives.self_supervised import SelfSupervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import cosine
from blocks.runs.records import read
from blocks.train import step as step_module
from blocks.train.compiled import compiled
from blocks.train.distributed import Processes
from blocks.train.loop import run
from blocks.train.loss_scale import LossScale
from blocks.train.step import init_state, make_step
from blocks.train.sweep_step import init_sweep
from tests.objectives.views import batch_of, head, model, same


def byol():
    return BYOL(model(), head(inputs=6), cosine(0.5, 1.0, 10))


def setup(objective=None, **knobs):
    """(objective, optimizer, first state)."""
    objective, optimizer = objective or byol(), adamw(3e-3)
    return objective, optimizer, init_state(objective, optimizer, key(3), **knobs)


def batch(seed=0, **knobs):
    return batch_of(seed=seed, dtype=torch.float32, **knobs)


def broken():
    spoilt = batch()
    spoilt["crops.0"][-1] = math.nan
    return spoilt


def steps(step, state, count=3):
    for number in range(count):
        state, metrics = step(state, batch(number))
    return state, metrics


EVERY = [
    {},
    {"accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.9},
    {"accumulate": 2, "precision": "bfloat16"},
    {"precision": "float16", "loss_scale": LossScale(initial=8.0)},
]


@pytest.mark.parametrize("knobs", EVERY)
def test_the_step_is_pure_and_a_donated_state_keeps_the_teachers_storage(knobs):
    given = {name: knobs[name] for name in ("precision", "loss_scale") if name in knobs}
    objective, optimizer, state = setup(ema="ema_decay" in knobs, **given)
    before = tree.clone(state)
    pure = steps(make_step(objective, optimizer, **knobs), state)
    assert same(state, before)
    donated = tree.clone(state)
    places = {name: leaf.data_ptr() for name, leaf in tree.flatten(donated.memory).items()}
    result = steps(make_step(objective, optimizer, donate=True, **knobs), donated)
    assert same(result[0], pure[0])
    assert all(torch.equal(value, pure[1][name]) for name, value in result[1].items())
    assert {name: leaf.data_ptr() for name, leaf in tree.flatten(result[0].memory).items()} == places
    assert result[0].memory["step"] == 3
    assert not same(result[0].memory["teacher"], before.memory["teacher"])


def test_the_memory_moves_once_a_step_towards_the_updated_params_and_by_all_parts_of_the_batch():
    objective, optimizer, state = setup()
    after, metrics = make_step(objective, optimizer, accumulate=4)(state, batch())
    student = {name: node for name, node in after.params.items() if name != "predictor"}
    expected = tree.map(lambda k, q: k.lerp(q, 0.5), state.memory["teacher"], student)
    assert same(after.memory["teacher"], expected)
    assert metrics["teacher_momentum"] == 0.5
    whole = make_step(objective, optimizer)(state, batch())[0].memory["moments"]
    mean = after.memory["moments"]["head"]["norms"]["0"]["running_mean"]
    torch.testing.assert_close(mean, whole["head"]["norms"]["0"]["running_mean"])  # means of parts have the mean


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_skipped_update_leaves_the_memory_bit_for_bit(donate, accumulate):
    objective, optimizer, state = setup()
    step = make_step(objective, optimizer, donate=donate, accumulate=accumulate)
    state, _ = step(state, batch())
    before = tree.clone(state)
    state, metrics = step(state, broken())
    assert metrics["skipped"] == 1
    assert same(state.memory, before.memory)
    assert same(state.params, before.params)
    assert step.broken(state, broken()) == list(tree.flatten(state.params))
    assert step.broken(state, batch()) == []
    assert same(state.memory, before.memory)
    state, metrics = step(state, batch(1))
    assert state.memory["step"] == 2
    assert all(leaf.isfinite().all() for leaf in tree.leaves(state))


def test_an_overflow_in_float16_leaves_the_memory_too():
    objective, optimizer, state = setup(precision="float16")
    state.loss_scale["scale"].fill_(2.0**40)
    after, metrics = make_step(objective, optimizer, precision="float16")(state, batch())
    assert not metrics["grad_norm"].isfinite()
    assert metrics["skipped"] == 0
    assert after.loss_scale["scale"] == 2.0**39
    assert same(after.memory, state.memory)


def test_given_params_have_the_memory_that_belongs_to_them():
    objective, optimizer, _ = setup()
    given = objective.fresh(key(8))
    state = init_state(objective, optimizer, key(3), params=given)
    assert same(state.params, given)
    assert same(state.memory, objective.remember(given))
    make_step(objective, optimizer, donate=True)(state, batch())
    assert same(given, objective.fresh(key(8)))


@attrs.frozen
class Flat(Block):
    """Images to one layer's features and a head: what takes no time to trace."""

    fc: Linear
    head: ProjectionMlp
    is_random = False

    def features(self, params, images, *, key=None):
        return self.fc(params["fc"], images.flatten(1))


def test_a_compiled_loss_leaves_its_notes_as_an_eager_one_does(monkeypatch):
    """Traced, but not compiled: what matters here is what crosses the border."""
    monkeypatch.setattr(step_module, "compiled", partial(compiled, backend="eager"))
    monkeypatch.setattr("shutil.which", lambda name: name)
    objective, optimizer, state = setup(BYOL(Flat(Linear(192, 8), head()), head(inputs=6)))
    eager, _ = make_step(objective, optimizer)(state, batch())
    places = {name: leaf.data_ptr() for name, leaf in tree.flatten(state.memory).items()}
    found, _ = make_step(objective, optimizer, compile=True, donate=True)(state, batch())
    assert found.memory.keys() == eager.memory.keys()
    for name, leaf in tree.flatten(eager).items():
        torch.testing.assert_close(tree.flatten(found)[name], leaf, msg=name)
    assert {name: leaf.data_ptr() for name, leaf in tree.flatten(found.memory).items()} == places


def test_a_sweep_refuses_an_objective_that_settles():
    with pytest.raises(ValueError, match="BYOL changes its memory after each update"):
        init_sweep(byol(), [adamw(1e-3)], [key(0)])


class Views:
    """The face of TrainLoader: 2 steps an epoch, whose batches follow from the step alone."""

    batch_size, steps_per_epoch, skipped = 8, 2, {}

    def __init__(self, stop_after=math.inf):
        self.stop_after = stop_after

    def batches(self, start_step=0):
        for step in range(start_step, 100):
            if step == self.stop_after:
                raise KeyboardInterrupt
            yield batch(step)


def train(out, objective=None, data=None, **knobs):
    objective = objective or byol()
    options = {"epochs": 3, "checkpoint_every_steps": 1, "log_every": 1, "seed": 3, "ema_decay": 0.9} | knobs
    return run(objective, adamw(3e-3), data or Views(), out=out, processes=Processes(), **options)


def test_a_cut_run_goes_on_to_the_same_teacher_and_params(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", data=Views(stop_after=3))
    assert same(train(tmp_path / "cut").state, whole.state)
    assert whole.state.memory["step"] == 6
    assert "notes" not in whole.state.memory


def test_params_their_average_and_the_teacher_are_all_evaluated(tmp_path, capsys):
    def norm(params):
        return {"knn5": min(1.0, float(params["head"]["layers"]["0"]["weight"].norm()) / 10)}

    result = train(tmp_path, evaluate=norm)
    record, state = result.history[-1], result.state
    subjects = {"val": state.params, "ema": state.ema, "teacher": state.memory["teacher"]}
    assert {name: record[f"{name}_knn5"] for name in subjects} == {n: norm(p)["knn5"] for n, p in subjects.items()}
    assert len({record[f"{name}_knn5"] for name in subjects}) == 3
    assert f"teacher k-NN 5 {record['teacher_knn5']:.2%}" in capsys.readouterr().out


def test_an_objective_of_crops_has_no_accuracy_by_itself(tmp_path):
    with pytest.raises(ValueError, match=r"BYOL has no `model` that classifies val_data; give evaluate="):
        train(tmp_path, val_data=[batch()])


@attrs.frozen(eq=False)
class Fading(SelfSupervised):
    """An objective whose metrics are a good one and one that is low in the first epoch and in the third."""

    alarms = {"feature_std": 0.05, "code_entropy": 0.1}  # noqa: RUF012
    objective: SelfSupervised

    def fresh(self, key):
        return self.objective.fresh(key)

    def remember(self, params):
        return self.objective.remember(params)

    def loss(self, params, memory, batch, key):
        loss, memory, _ = self.objective.loss(params, memory, batch, key)
        low = (memory["step"] // 2 == 1).float()  # steps 2 and 3: the second epoch is well
        return loss, memory, {"feature_std": 0.01 + low, "code_entropy": torch.tensor(0.2)}

    def settle_(self, params, memory, skip=None):
        return self.objective.settle_(params, memory, skip)


def test_a_metric_that_stays_below_its_healthy_value_is_told_once_an_epoch(tmp_path, capsys):
    objective = byol()
    train(tmp_path, Fading(objective.model, objective))
    lines = [line for line in capsys.readouterr().out.splitlines() if "ALARM" in line]
    assert len(lines) == 2
    assert "epoch 1 feature_std was 0.01 on average, and healthy is 0.05 or more" in lines[0]
    assert "epoch 3 feature_std" in lines[1]
    assert "lower learning rate" in lines[1]
    alarmed = [r["train_feature_std"] for r in read(tmp_path / "metrics.jsonl") if r["kind"] == "epoch"]
    assert [value < 0.05 for value in alarmed] == [True, False, True]


def test_features_that_are_all_alike_set_off_byol_s_own_alarm(tmp_path, capsys):
    """The last layer of the head is zero but for its bias: every image has one embedding."""
    objective = BYOL(model(), head(inputs=6))
    params = objective.fresh(key(0))
    params["head"]["layers"]["1"]["weight"].zero_()
    params["head"]["layers"]["1"]["bias"].fill_(1.0)
    train(tmp_path, objective, params=params, frozen=["head.layers.1.*"], epochs=1)
    assert "ALARM: in epoch 1 feature_std was 0 on average" in capsys.readouterr().out
    capsys.readouterr()
    train(tmp_path / "well", epochs=1)
    assert "ALARM" not in capsys.readouterr().out
