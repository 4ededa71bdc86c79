"""How long a recipe trains, by its flags: said in epochs, before a schedule can say it in steps."""

from typing import Any

import attrs


def check_epochs(recipe: Any) -> None:
    """Raises ValueError for fields `epochs` below 1, `..._epochs` below 0, and `warmup_epochs` above `epochs`.

    What is no number, None or a tuple, is not looked at.
    """
    named = {field.name: getattr(recipe, field.name) for field in attrs.fields(type(recipe))}
    numbers = {name: value for name, value in named.items() if isinstance(value, int | float)}
    lengths = {name: value for name, value in numbers.items() if name == "epochs" or name.endswith("_epochs")}
    for name, value in lengths.items():
        least = 1 if name == "epochs" else 0
        if value < least:
            raise ValueError(f"{_flag(name)} {value} is no number of epochs; use {least} or more")
    _check_warmup(lengths.get("warmup_epochs", 0.0), lengths.get("epochs"))


def _check_warmup(warmup: float, epochs: float | None) -> None:
    if epochs is not None and warmup > epochs:
        raise ValueError(
            f"--warmup-epochs {warmup:g} is more than --epochs {epochs}: give --warmup-epochs too, {epochs} or less "
            f"(such as {epochs / 10:g}), or train for more --epochs"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
