"""How an error ends a recipe's program: one line for what was refused, a traceback for what broke."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.train import errors


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)


def test_under_torchrun_every_process_leaves_the_line_for_the_report_and_the_first_prints_it(
    monkeypatch, tmp_path, capsys
):
    place = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(place))
    monkeypatch.setenv("RANK", "1")
    errors.tell("x.py: error: no")
    assert capsys.readouterr().err == ""
    assert '"py_callstack": "x.py: error: no"' in place.read_text()
    monkeypatch.setenv("RANK", "0")
    errors.tell("x.py: error: no")
    assert capsys.readouterr().err == "x.py: error: no\n"


PROGRAM = """
import attrs
from blocks.train.cli import cli

@attrs.frozen
class Recipe:
    wrong: str = "value"

@attrs.frozen
class Checked:
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    kind: str = attrs.field(default="first", validator=attrs.validators.in_(("first", "second")))

def main(r):
    import blocks.random
    if r.wrong == "value":
        blocks.random.key(-1)  # the package refuses
    if r.wrong == "own":
        raise ValueError("own is wrong; use right")
    if r.wrong == "field":
        Checked(count=0)  # attrs refuses
    if r.wrong == "choice":
        Checked(kind="third")
    if r.wrong == "server":
        from blocks.data import open_shards
        from blocks.data.storage import Retries
        open_shards("http://127.0.0.1:9/a.tar", retries=Retries(1))  # nobody listens: out of reach, and told so
    if r.wrong == "file":
        from pathlib import Path
        Path("nowhere/teacher.pth").write_text("")  # the standard library meets it
    if r.wrong == "full":
        with open("/dev/full", "w") as file:
            file.write("x")  # fails where it is closed, and its error names no file
    int("not a number")  # nobody's refusal: a mistake in the program

main(cli(Recipe))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "program.py"
    path.write_text(PROGRAM)
    return path


def told(program, capsys, *argv):
    """What the program leaves on stderr when an error ends it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(program), *argv])
        patch.setattr(sys, "excepthook", sys.__excepthook__)
        try:
            runpy.run_path(str(program), run_name="__main__")
        except Exception:
            sys.excepthook(*sys.exc_info())
    return capsys.readouterr().err


def test_what_is_refused_on_purpose_is_one_line(program, capsys):
    assert (
        told(program, capsys) == "program.py: error: seed -1 is out of range; use a whole number from 0 to 2**64 - 1\n"
    )
    assert told(program, capsys, "--wrong", "own") == "program.py: error: own is wrong; use right\n"
    missing = told(program, capsys, "--wrong", "file")
    assert missing == "program.py: error: [Errno 2] No such file or directory: 'nowhere/teacher.pth'\n"
    full = told(program, capsys, "--wrong", "full")
    assert full == "program.py: error: [Errno 28] No space left on device; make room, or give another folder (--out)\n"
    unreachable = told(program, capsys, "--wrong", "server")
    assert unreachable.startswith("program.py: error: http://127.0.0.1:9/")
    assert unreachable.count("\n") == 1


def test_what_a_validator_of_attrs_refuses_is_one_line(program, capsys):
    assert told(program, capsys, "--wrong", "field") == "program.py: error: 'count' must be >= 1: 0\n"
    choice = told(program, capsys, "--wrong", "choice")
    assert choice.startswith("program.py: error: 'kind' must be in ('first', 'second') (got 'third')")
    assert choice.count("\n") == 1


def test_what_breaks_is_a_traceback(program, capsys):
    assert told(program, capsys, "--wrong", "x").startswith("Traceback")
    assert told(program, capsys, "--traceback").startswith("Traceback")


def test_a_refusal_ends_a_real_program_with_one_line_and_code_1(program):
    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "TORCHELASTIC_ERROR_FILE")}
    command = [sys.executable, str(program), "--wrong", "own"]
    run = subprocess.run(command, env=environment | {"PYTHONPATH": root}, stderr=subprocess.PIPE, text=True)
    assert (run.stderr, run.returncode) == ("program.py: error: own is wrong; use right\n", 1)
