"""Errors as a person wants them: one line for what was raised on purpose, a traceback for what was not."""

import dis
import inspect
import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType

import attrs

import blocks
from blocks.durable import NO_SPACE

PACKAGE = Path(blocks.__file__).resolve().parent
VALIDATORS = Path(inspect.getfile(attrs.validators.ge)).resolve()
DELIBERATE = (ValueError, OSError, RuntimeError, FloatingPointError)


def one_line(recipe: type) -> None:
    """From now on, an error that the package or the recipe's file raises on purpose ends the program with one line."""
    name, file = script(recipe), file_of(recipe)

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if trace is not None and _on_purpose(error, trace, file):
            tell(f"{name}: error: {reason(error)}")
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


def reason(error: BaseException) -> str:
    """What an error says; of the several arguments that attrs gives to its own, the first is the sentence."""
    if is_full(error):
        return f"{error}; make room, or give another folder (--out)"
    return str(error.args[0]) if type(error) is ValueError and error.args else str(error)


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota has no room left: an error of writing, which names no file."""
    return isinstance(error, OSError) and error.errno in NO_SPACE


def tell(line: str) -> None:
    """Print a line as the first process, and leave it where torchrun looks for the reason: its report ends with it."""
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if place:
        extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
        Path(place).write_text(json.dumps({"message": {"message": line, "extraInfo": extra}}))
    if is_first_process() or not place:
        print(line, file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Whether this process talks, by torchrun's environment."""
    return os.environ.get("RANK", "0") == "0"


def script(recipe: type) -> str:
    """The file name of a recipe's program."""
    file = file_of(recipe)
    return file.name if file else Path(sys.argv[0]).name


def file_of(recipe: type) -> Path | None:
    """The file of a recipe's program; None where there is none."""
    try:
        return Path(inspect.getfile(recipe)).resolve()
    except (OSError, TypeError):
        return None


def _on_purpose(error: BaseException, trace: TracebackType, recipe: Path | None) -> bool:
    """Whether the last frame is the package's or the recipe's and stands at a `raise`, not at a call that failed.

    So may that of a validator of attrs: it refuses what a field of theirs was given.
    A file that is missing or may not be written, its error names it, and a full disk are the person's to mend too,
    whoever met them.
    """
    if is_full(error) or (isinstance(error, OSError) and error.filename is not None):
        return True
    if not isinstance(error, DELIBERATE):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = Path(trace.tb_frame.f_code.co_filename).resolve()
    if file not in (recipe, VALIDATORS) and PACKAGE not in file.parents:
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
