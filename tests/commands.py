"""The shell commands of the documentation: parsed by the very parser that they would meet, or run in this process."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

import blocks.train.cli
from tests.pages import ROOT

# whose words are not ours to parse
OTHERS = {"cp", "cat", "ls", "pre-commit", "pytest", "ruff", "mypy", "tensorboard", "zensical", "sbatch"}


class Parsed(Exception):
    """A program understood its command line, and would start now."""


def commands(text: str) -> list[list[str]]:
    """The words of each command, without comments; `a && b` are two."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in _parts(line)]
    return [command for command in words if command]


def _parts(line: str) -> list[str]:
    return re.split(r"\s&&\s", line)


def check(words: list[str], folder: Path) -> None:
    """Raise unless the command's program takes these words; `folder` is where it would be given."""
    words = words[1:] if words[0] == "srun" else words  # Slurm starts the rest on each machine
    program, *arguments = words
    if program == "pip":
        _check_extras(arguments)
    elif program in OTHERS:
        paths = [word for word in arguments if re.match(r"(tests|docs|recipes)/", word)]
        missing = [path for path in paths if not (ROOT / path).exists()]
        assert not missing, f"{missing} of {shlex.join(words)!r} are not there"
    elif not _is_bare(words, folder):
        _start(words, folder, stop=True)


def _is_bare(words: list[str], folder: Path) -> bool:
    """Whether the last word is a program of the page that takes no flags."""
    file = folder / words[-1]
    return file.suffix == ".py" and file.is_file() and "cli(" not in file.read_text()


def run(words: list[str], folder: Path, extra: str = "") -> None:
    """Do what the command does, in this process where it is a Python program of ours."""
    if words[0] in OTHERS:
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    else:
        _start([*words, *shlex.split(extra)], folder, stop=False)


def _check_extras(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {project["name"], *project["optional-dependencies"]}
    wanted = re.findall(r"[\w-]+", " ".join(word for word in arguments[1:] if not word.startswith("-")))
    assert arguments[0] == "install", arguments
    assert set(wanted) <= known, f"pip install {wanted}: known are {sorted(known)}"


def _start(words: list[str], folder: Path, *, stop: bool) -> None:
    """Start a Python program in this process; with stop, only until it has read its command line."""
    program, arguments, begin = _python_program(words, folder)
    patches = _patched(program, arguments, stop=stop)
    try:
        with patches:
            begin()
    except Parsed:
        return
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{shlex.join(words)!r} ended with {end.code}") from end
    assert not stop, f"{shlex.join(words)!r} did not read its command line"


def _python_program(words: list[str], folder: Path) -> tuple[str, list[str], Callable[[], object]]:
    """(name, arguments, what starts it) of `python FILE ...`, `python -m MODULE ...` and `torchrun ... FILE ...`."""
    program, *arguments = words
    if program == "torchrun":
        options = get_args_parser().parse_args(arguments)
        program, arguments = "python", [options.training_script, *options.training_script_args]
    assert program == "python", f"{shlex.join(words)!r}: {program} is none of the programs that the tests know"
    if arguments[0] == "-m":
        module = arguments[1]
        return module, arguments[2:], lambda: runpy.run_module(module, run_name="__main__", alter_sys=True)
    file = folder / arguments[0] if (folder / arguments[0]).exists() else ROOT / arguments[0]
    assert file.exists(), f"{arguments[0]} of {shlex.join(words)!r} is not there"
    return str(file), arguments[1:], lambda: runpy.run_path(str(file), run_name="__main__")


@contextmanager
def _patched(program: str, arguments: list[str], *, stop: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        patch.setattr(sys, "excepthook", sys.excepthook)  # a recipe's cli sets another
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)  # it takes seconds to import
        if stop:
            patch.setattr(blocks.train.cli, "cli", _stopping(blocks.train.cli.cli))
            if not program.endswith(".py"):
                patch.setattr(argparse.ArgumentParser, "parse_args", _stopping(argparse.ArgumentParser.parse_args))
        yield


def _stopping(parse: Callable) -> Callable:
    def stopping(*args, **kwargs):
        parse(*args, **kwargs)
        raise Parsed

    return stopping
