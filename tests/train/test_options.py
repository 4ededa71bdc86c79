"""Running flags: shared by inheritance, and what `run` makes of them."""

import signal
import sys

import attrs
import pytest
import torch

from blocks.runs.run import Run
from blocks.train import options as module
from blocks.train.cli import cli
from blocks.train.distributed import Processes
from blocks.train.fields import flags
from blocks.train.options import RunOptions, options_of
from tests.train.tiny import ValData, ask_to_stop, train


@attrs.frozen
class Recipe(RunOptions):
    """A recipe."""

    lr: float = 0.1  # rate
    workers: int = 2
    out: str = "runs/small"  # metrics and checkpoints


@pytest.fixture(autouse=True)
def _its_own_excepthook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def test_a_recipes_own_fields_come_first_and_the_shared_ones_bring_their_help():
    found = flags(Recipe)
    assert [flag.name for flag in found] == [
        "lr", "workers", "out", "seed", "resume", "evaluate_every", "keep", "best", "checkpoint_every_steps", "dry_run",
        "profile", "report", "wandb", "decoded", "shuffle_window", "max_unreadable", "timeout",
    ]  # fmt: skip
    assert found[2].help == "metrics and checkpoints"
    assert found[1].help.startswith("loading processes")
    assert all(flag.help for flag in found)


def test_loaders_are_given_the_place_of_the_process_and_the_flags_of_loading():
    r = Recipe(workers=3, decoded="memory", max_unreadable=0.5, timeout=9.0, seed=7)
    assert r.loading(Processes(rank=1, world_size=2)) == {
        "rank": 1, "world_size": 2, "device": torch.device("cpu"), "num_workers": 3, "decoded": "memory",
        "max_unreadable": 0.5, "timeout": 9.0,
    }  # fmt: skip
    assert Recipe().loading(Processes())["decoded"] is None
    assert Recipe().order["shuffle_window"] is None
    assert attrs.evolve(r, shuffle_window=5).order == {"seed": 7, "shuffle_window": 5}


def test_flags_are_read_as_any_others():
    r = cli(Recipe, ["--no-resume", "--dry-run", "--profile", "--no-report", "--seed", "3", "--lr", "2"])
    assert r == Recipe(resume=False, dry_run=True, profile=True, report=False, seed=3, lr=2.0)


def test_the_settings_say_what_is_trained_not_how_it_is_run():
    settings = Recipe(lr=2.0, profile=True, timeout=9.0, decoded="disk").settings
    own = {"lr": 2.0, "workers": 2, "out": "runs/small", "seed": 0}
    assert settings == own | {"decoded": "disk", "shuffle_window": 0}
    assert Recipe().recipe == "test_options"


@pytest.mark.parametrize("words", [["--keep", "0"], ["--evaluate-every", "0"], ["--checkpoint-every-steps", "-1"]])
def test_counts_below_one_are_refused_on_the_command_line(words, capsys):
    with pytest.raises(SystemExit):
        cli(Recipe, words)
    assert f"{words[0][2:].replace('-', '_')} {words[1]} is not a count" in capsys.readouterr().err


def test_wandb_that_is_not_installed_is_refused_on_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        cli(Recipe, ["--wandb"])
    assert "wandb is asked for and not installed: pip install wandb" in capsys.readouterr().err
    assert "wandb" not in sys.modules


def test_what_is_given_takes_the_options_place_and_a_folder_there_must_be(tmp_path):
    assert options_of(Recipe(seed=3), out=tmp_path, seed=None).out == str(tmp_path)
    assert options_of(Recipe(seed=3), out=None, seed=None) == Recipe(seed=3)
    assert options_of(None, out="x", seed=4, resume=False) == RunOptions(out="x", seed=4, resume=False, report=False)
    with pytest.raises(ValueError, match="a run wants a folder"):
        options_of(None, out=None)


def test_a_run_keeps_no_password_token_or_signature_of_a_url(tmp_path, monkeypatch):
    """Settings, command and checkpoint; a newly signed address is no other setting."""
    signed = "https://user:{0}@host/train-{{000000..000009}}.tar?X-Amz-Signature={0}&x=1"

    @attrs.frozen
    class Remote(RunOptions):
        data: str = signed.format("hush")
        mixed: tuple[str, ...] = (signed.format("hush"), "digits")
        out: str = str(tmp_path)
        report: bool = False

    monkeypatch.setattr(sys, "argv", ["recipe.py", "--data", signed.format("hush")])
    train(None, epochs=1, options=Remote(), seed=None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if b"hush" in path.read_bytes()] == []
    run = Run.open(tmp_path)
    assert run.settings["data"] == run.command[-1] == signed.format("***")
    again = Remote(data=signed.format("new"), mixed=(signed.format("new"), "digits"))
    assert train(None, epochs=1, options=again, seed=None).finished


def small(tmp_path, **knobs):
    return train(None, epochs=1, options=Recipe(out=str(tmp_path), report=False, seed=3, **knobs), seed=None)


def test_a_run_by_options_writes_the_recipe_and_compares_its_fields_on_resume(tmp_path, capsys):
    small(tmp_path)
    run = Run.open(tmp_path)
    assert (run.recipe, run.settings) == (
        "test_options",
        {"out": str(tmp_path), "seed": 3, "lr": 0.1, "workers": 2, "decoded": "", "shuffle_window": 0},
    )
    assert run.facts["batch_size"] == 8
    assert run.environment["world_size"] == 1
    assert len(run.epochs) == 1
    small(tmp_path, workers=5)
    assert "workers was 2, is 5" in capsys.readouterr().out
    assert [(c["step"], c["changes"]) for c in Run.open(tmp_path).changed] == [(3, ["workers was 2, is 5"])]
    with pytest.raises(ValueError, match=r"another run: lr was 0\.1, is 0\.2\. "):
        small(tmp_path, lr=0.2)
    assert len(Run.open(tmp_path).changed) == 1


def test_without_resume_a_folder_that_holds_any_run_is_refused_and_left_as_it_is(tmp_path):
    small(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run already, at step-00000003\.pt; go on .*--no-resume out.*--out"):
        small(tmp_path, resume=False)
    for path in tmp_path.glob("step-*"):
        path.unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="holds a run already; go on"):
        small(tmp_path, resume=False)
    assert sorted(tmp_path.iterdir()) == before


def test_without_resume_a_new_folder_or_one_with_other_things_is_fine(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert small(tmp_path, resume=False).finished


def test_a_report_that_fails_is_told_and_the_run_is_done(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "blocks.report.write", None)
    result = train(None, epochs=1, options=Recipe(out=str(tmp_path)), val_data=ValData(), seed=None)
    assert result.finished
    assert f"python -m blocks.report {tmp_path} tries again" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_a_recipe_that_was_asked_to_stop_ends_with_the_signal_s_exit_code(tmp_path, number, code):
    options = Recipe(out=str(tmp_path), report=False)
    with pytest.raises(SystemExit) as ended:
        train(None, options=options, seed=None, train_data=ask_to_stop(4, number))
    assert ended.value.code == code
    assert train(None, options=options, seed=None).finished


@pytest.mark.parametrize("name", ["settings.json", "model.json", "metrics.jsonl"])
def test_somebody_else_s_files_are_refused_and_stay(tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match=f"{tmp_path} holds {name} that no run wrote .*; give another output folder"):
        small(tmp_path)
    assert (tmp_path / name).read_text() == '{"mine": 1}'
