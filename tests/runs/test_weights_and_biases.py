"""Weights & Biases, by a package of its name that keeps what it is told: nothing leaves the machine."""

import json
import sys

import pytest

from blocks.runs.metrics_log import MetricsLog
from blocks.runs.weights_and_biases import WeightsAndBiases

FAKE = """
told = []

class Run:
    def log(self, data, step):
        told.append(("log", step, data))
    def finish(self):
        told.append(("finish",))

def init(**knobs):
    told.append(("init", knobs))
    return Run()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """What the fake package is told."""
    (tmp_path / "site" / "wandb").mkdir(parents=True)
    (tmp_path / "site" / "wandb" / "__init__.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    sys.modules.pop("wandb", None)
    yield lambda: sys.modules["wandb"].told
    sys.modules.pop("wandb", None)


def test_records_go_there_as_numbers_and_the_settings_with_them(tmp_path, fake):
    with MetricsLog(tmp_path / "moco", 0, print, [WeightsAndBiases(tmp_path / "moco", {"lr": 0.1})]) as log:
        log.write({"kind": "step", "step": 3, "loss": 0.5, "note": "x"})
    (_, knobs), *rest = fake()
    assert (knobs["project"], knobs["name"], knobs["config"], knobs["resume"]) == (
        "vitmason",
        "moco",
        {"lr": 0.1},
        "allow",
    )
    assert rest == [("log", 3, {"step/loss": 0.5}), ("finish",)]


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path, fake):
    for _ in range(2):
        WeightsAndBiases(tmp_path, {})
    first, second = (knobs["id"] for _, knobs in fake())
    assert first == second == json.loads((tmp_path / "wandb.json").read_text())["id"]


def test_the_project_may_be_named_by_the_environment(tmp_path, fake, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    WeightsAndBiases(tmp_path, {})
    assert fake()[0][1]["project"] == "mine"


def test_without_the_package_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="wandb is asked for and not installed: pip install wandb"):
        WeightsAndBiases(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
