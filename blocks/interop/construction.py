"""A block as plain values that JSON can hold, and back: how a saved model says what it is."""

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from blocks.block import Block

TRUSTED = ("blocks",)  # packages
NAME = "block"  # the entry that bears the class's full name
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def describe(block: Block) -> dict[str, Any]:
    """{"block": "blocks.trunks.vit.ViT", and its fields by name}; sub-blocks likewise, tuples as lists.

    Fields that the class makes itself (`init=False`) are left out. `build` reads it back. Raises ValueError for what is
    no plain value: a function, a tensor, a module.
    """
    cls = type(block)
    name = f"{_module(cls)}.{cls.__qualname__}"
    if "<locals>" in name:
        raise ValueError(f"{name} is written inside a function, where nobody finds it again; move it to a module")
    fields = {field.name: field for field in attrs.fields(cls) if field.init}
    if NAME in fields:
        raise ValueError(f"{name} has a field {NAME!r}, which is the entry for the class's name; call it otherwise")
    return {NAME: name, **{field: _plain(getattr(block, field), f"{name}.{field}") for field in fields}}


def build(description: Mapping[str, Any], trusted: Sequence[str] = TRUSTED) -> Block:
    """The block that `describe` described, made by its class: only a Block class of a `trusted` package or module.

    Raises ValueError that names an unknown class or field, a missing one, or what the class says against a value.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get(NAME), str):
        raise ValueError(f'{_short(description)} describes no block; it wants an entry "{NAME}" with the class\'s name')
    name = description[NAME]
    fields = {field.name: field for field in attrs.fields(_class(name, trusted)) if field.init}
    given = {field: value for field, value in description.items() if field != NAME}
    _check(name, fields, given)
    values = {fields[field].alias: _value(value, trusted, f"{name}.{field}") for field, value in given.items()}
    try:
        return _class(name, trusted)(**values)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{name}: {error}") from error


def _module(cls: type) -> str:
    """The module of a class; for one of the program itself the name by which others import its file."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file).stem if cls.__module__ == "__main__" and file else cls.__module__


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, Block):
        return describe(value)
    if isinstance(value, tuple):
        return [_plain(item, place) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(
        f"{place} is a {type(value).__name__}, which cannot be described: "
        "only blocks, numbers, strings, None and tuples of them can"
    )


def _value(value: Any, trusted: Sequence[str], place: str) -> Any:
    if isinstance(value, Mapping):
        return build(value, trusted)
    if isinstance(value, list | tuple):
        return tuple(_value(item, trusted, place) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{place} is a {type(value).__name__}, which no description holds")


def _class(name: str, trusted: Sequence[str]) -> type[Block]:
    """The Block class of that full name. Nothing outside `trusted` is imported, and only a class is ever called."""
    packages = [trusted] if isinstance(trusted, str) else list(trusted)
    if not DOTTED.fullmatch(name) or not any(name.startswith(f"{package}.") for package in packages):
        raise ValueError(
            f"{name!r} is not of {packages}; if you trust its code, name its package in trusted= "
            f"(--trusted {name.partition('.')[0]}, or {name.partition('.')[0]}.py)"
        )
    module, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), last, None)
    except ImportError as error:
        raise ValueError(f"{name!r} is not here: {error}; it may be of another version of its package") from None
    if not isinstance(found, type) or not issubclass(found, Block) or found.__module__ != module:
        raise ValueError(f"{name!r} is not a Block class; it may be of another version of its package")
    return found


def _check(name: str, fields: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    unknown = [field for field in given if field not in fields]
    missing = [n for n, field in fields.items() if field.default is attrs.NOTHING and n not in given]
    problems = [f"{title} {names}" for title, names in (("has no", unknown), ("wants", missing)) if names]
    if problems:
        raise ValueError(f"{name} {' and '.join(problems)}; its fields are {list(fields)}")


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."
