"""The command line of a recipe: each field of its attrs class is a flag, with the comment behind the field as help."""

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import attrs

from blocks.train import errors
from blocks.train.epochs import check_epochs
from blocks.train.fields import Flag, flags, parse

T = TypeVar("T")
Presets = Mapping[str, Mapping[Any, Mapping[str, Any]]]
Known = Callable[[Mapping[str, Any]], Mapping[str, Any]]
MANY = 20  # choices that a line of help may list


def cli(
    recipe: type[T], argv: Sequence[str] | None = None, *, presets: Presets | None = None, known: Known | None = None
) -> T:
    """An instance of the attrs class made from the flags: `--batch-size 64`, `--batch_size=64`, `--ema`, `--no-ema`.

    presets {"data": {"digits": {"epochs": 30}}}: where `data` is "digits", given or by default, these replace the
    defaults of the fields that are not given. `known` is told what is given, {field: value}, and what it returns is as
    if given too: what a run's weights say of its data. A mistake ends the program with one line and exit code 2. From
    here on an error that this library or the recipe raises on purpose is one line too (exit code 1), except with
    --traceback.
    """
    fields = {flag.name: flag for flag in flags(recipe)}
    script = errors.script(recipe)
    parser = _parser(recipe, script, fields, presets or {})
    found, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(_unknown(rest[0], [option for flag in fields.values() for option in flag.options]))
    given = vars(found)
    if not given.pop("traceback"):
        errors.one_line(recipe)
    try:
        values = {name: parse(fields[name], text) for name, text in given.items()}
        values = {**(known(values) if known else {}), **values}
        made = recipe(**_with_presets(fields, values, presets or {}))
        check_epochs(made)
    except (ValueError, FileNotFoundError) as error:
        parser.error(errors.reason(error))
    return made


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").replace(": expected", " expects")
        errors.tell(f"{self.prog}: {message} (--help lists all)")
        sys.exit(2)

    def print_help(self, file: Any = None) -> None:
        if errors.is_first_process():
            super().print_help(file)


def _parser(recipe: type, script: str, known: Mapping[str, Flag], presets: Presets) -> _Parser:
    parser = _Parser(
        prog=script,
        usage=f"{script} [--flag value ...]",
        description=getattr(sys.modules.get(recipe.__module__), "__doc__", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for flag in known.values():
        text = f"{flag.help} {_defaults(flag, presets)}".strip().replace("%", "%%")
        shape: dict[str, Any] = (
            {"nargs": "+"} if flag.is_tuple else {"nargs": "?", "const": "true"} if flag.is_bool else {}
        )
        parser.add_argument(
            *flag.spellings,
            dest=flag.name,
            metavar=flag.kind.split()[0] if flag.is_tuple else _brief(flag.kind),
            help=text,
            **shape,
        )
        if flag.is_bool:
            hidden = argparse.SUPPRESS
            parser.add_argument(*flag.negations, dest=flag.name, action="store_const", const="false", help=hidden)
    parser.add_argument("--traceback", action="store_true", default=False, help="show where an error was raised")
    return parser


def _brief(kind: str) -> str:
    """The words, or where they are very many the first and their number: a wrong one lists them all."""
    words = kind.split("|")
    return kind if len(words) <= MANY else f"{'|'.join(words[:3])}|... ({len(words)} names)"


def _defaults(flag: Flag, presets: Presets) -> str:
    own = "required" if flag.default is attrs.NOTHING else f"default: {_shown(flag.default)}"
    others = [
        f"; {_shown(values[flag.name])} with --{name.replace('_', '-')} {value}"
        for name, cases in presets.items()
        for value, values in cases.items()
        if flag.name in values
    ]
    return f"({own}{''.join(others)})"


def _shown(value: Any) -> str:
    if hasattr(value, "takes_self"):  # attrs makes it from the other fields
        return "by other flags"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return repr(value) if value == "" else str(value)


def _with_presets(known: Mapping[str, Flag], given: dict[str, Any], presets: Presets) -> dict[str, Any]:
    missing = [flag.options[0] for flag in known.values() if flag.default is attrs.NOTHING and flag.name not in given]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given")
    values: dict[str, Any] = {}
    for name, cases in presets.items():
        values |= cases.get(given.get(name, known[name].default), {})
    return values | given


def _unknown(word: str, options: list[str]) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}; every value follows its flag, --flag value; quote a pattern with *"
    name = word.split("=")[0]
    close = difflib.get_close_matches(name.replace("_", "-"), options, n=1)
    return f"unknown flag {name}" + (f"; did you mean {close[0]}?" if close else "")
