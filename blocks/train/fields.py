"""The fields of an attrs class as flags: their types, defaults, and the comments behind them in the source."""

import inspect
import io
import math
import textwrap
import tokenize
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

SAID = (str, int, float, Path)  # types of what one word says; bool is an int
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@attrs.frozen
class Flag:
    """One field: its name, type, default (attrs.NOTHING: none) and help."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def spellings(self) -> list[str]:
        """--batch-size, --batch_size."""
        return list(dict.fromkeys((f"--{self.name.replace('_', '-')}", f"--{self.name}")))

    @property
    def negations(self) -> list[str]:
        """--no-flag, for a bool."""
        return list(dict.fromkeys(f"--no-{spelling[2:]}" for spelling in self.spellings)) if self.is_bool else []

    @property
    def options(self) -> list[str]:
        """The spellings that an error suggests."""
        return [self.spellings[0], *self.negations[:1]]

    @property
    def is_bool(self) -> bool:
        """Whether it can stand without a value."""
        return _plain(self.type) is bool or _beside_bool(self.type) is not None

    @property
    def is_tuple(self) -> bool:
        """Whether it takes several values."""
        return get_origin(_plain(self.type)) is tuple

    @property
    def kind(self) -> str:
        """Its type in words."""
        return _words(self.type)


def flags(cls: type) -> list[Flag]:
    """A flag for every field of an attrs class, inherited ones last. Raises TypeError for what cannot be a flag."""
    hints, comments = get_type_hints(cls), _comments(cls)
    fields = sorted((field for field in attrs.fields(cls) if field.init), key=lambda field: field.inherited)
    return [Flag(f.name, _supported(f.name, hints[f.name]), _default(f), comments.get(f.name, "")) for f in fields]


def parse(flag: Flag, text: str | Sequence[str]) -> Any:
    """The value of a flag's text. Raises ValueError that names both."""
    try:
        return _parse(flag.type, text)
    except ValueError:
        shown = text if isinstance(text, str) else " ".join(text)
        raise ValueError(f"{flag.spellings[0]} takes {flag.kind}, not {shown!r}") from None


def _parse(kind: Any, text: str | Sequence[str]) -> Any:
    other = _beside_bool(kind)
    if other is not None:
        kind = bool if str(text).lower() in TRUE + FALSE else other
    plain = _plain(kind)
    if plain is not kind and _says_none(text):
        return None
    if get_origin(plain) is tuple:
        return _parse_tuple(get_args(plain), text)
    assert isinstance(text, str)
    if get_origin(plain) is Literal:
        return {str(choice): choice for choice in get_args(plain)}[text] if text in _choices(plain) else _refuse()
    if plain is bool:
        return True if text.lower() in TRUE else False if text.lower() in FALSE else _refuse()
    value = plain(text)
    return _refuse() if plain is float and not math.isfinite(value) else value


def _parse_tuple(kinds: tuple[Any, ...], texts: Sequence[str]) -> tuple[Any, ...]:
    """Values apart by spaces or commas: 0.9 0.999, or 0.9,0.999; of any number of them none is "none"."""
    words = [word for text in texts for word in text.split(",") if word]
    if kinds[1:] == (...,) and _says_none(words):
        return ()
    kinds = kinds[:1] * len(words) if kinds[1:] == (...,) else kinds
    return tuple(_parse(kind, word) for kind, word in zip(kinds, words, strict=True))  # strict: ValueError


def _says_none(text: str | Sequence[str]) -> bool:
    return text in ("none", "None", ["none"], ["None"])


def _refuse() -> Any:
    raise ValueError


def _default(field: Any) -> Any:
    factory = getattr(field.default, "factory", None)
    return factory() if factory and not field.default.takes_self else field.default


def _plain(kind: Any) -> Any:
    """T of `T | None`, other types as they are."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    rest = [k for k in get_args(kind) if k is not type(None)]
    return rest[0] if len(rest) == 1 else kind


def _beside_bool(kind: Any) -> Any:
    """The Literal of `bool | Literal[...]`; None for other types."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    others = [k for k in kinds if k is not bool]
    return others[0] if len(others) == 1 and get_origin(others[0]) is Literal else None


def _choices(kind: Any) -> list[str]:
    return [str(choice) for choice in get_args(kind)]


def _words(kind: Any) -> str:
    other = _beside_bool(kind)
    if other is not None:
        return f"{_words(bool)}|{_words(other)}"
    plain = _plain(kind)
    if plain is not kind:
        return f"{_words(plain)} or none"
    if get_origin(kind) is Literal:
        return "|".join(_choices(kind))
    if get_origin(kind) is tuple:
        args = get_args(kind)
        return f"{_words(args[0])} ..." if args[1:] == (...,) else " ".join(map(_words, args))
    return {bool: "true|false"}.get(kind, kind.__name__)


def _supported(name: str, kind: Any) -> Any:
    plain = _beside_bool(kind) or _plain(kind)
    inner = [k for k in get_args(plain) if k is not ...] if get_origin(plain) is tuple else [plain]
    if not inner or not all(get_origin(k) is Literal or (isinstance(k, type) and issubclass(k, SAID)) for k in inner):
        raise TypeError(
            f"field {name} has type {kind}; a flag is a str, int, float, bool, Path, Literal, or a tuple of them, or "
            "bool | Literal"
        )
    return kind


def _comments(cls: type) -> dict[str, str]:
    """{field: the comment behind it} of a class and its bases; {} where there is no source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            found |= _comments_in(inspect.getsource(base))
        except (OSError, TypeError):
            continue
    return found


def _comments_in(source: str) -> dict[str, str]:
    """{name: comment} of a class's own statements `name: ...  # comment`."""
    found: dict[str, str] = {}
    line: list[tokenize.TokenInfo] = []
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline):
        depth += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
        if token.type in (tokenize.INDENT, tokenize.DEDENT, tokenize.NL):
            continue
        if token.type != tokenize.NEWLINE:
            line.append(token)
            continue
        words = [t for t in line if t.type != tokenize.COMMENT]
        if depth == 1 and len(words) > 1 and words[0].type == tokenize.NAME and words[1].string == ":":
            behind = [t for t in line if t.type == tokenize.COMMENT and t.start[0] >= words[0].start[0]]
            comment = " ".join(t.string.lstrip("# ") for t in behind)
            found |= {words[0].string: comment} if comment else {}  # without one a base's stands
        line = []
    return found
