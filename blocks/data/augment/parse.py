"""Policies by the strings that papers and timm's commands give."""

import math
import re
from typing import Any

from blocks.data.augment.auto_augment import POLICIES, AutoAugment
from blocks.data.augment.plan import Policy
from blocks.data.augment.rand_augment import RandAugment
from blocks.data.augment.three_augment import ThreeAugment

RAND = {"m": "magnitude", "n": "num_ops", "p": "prob", "mstd": "mstd", "mmax": "max_magnitude", "inc": "increasing"}
AUTO = {"mstd": "mstd"}
TYPES = {"num_ops": int, "increasing": bool}
UNSAID: dict[str, Any] = dict(magnitude=10, num_ops=2, prob=0.5, mstd=0.0, increasing=False)  # timm's, not DeiT's
UNIFORM = 100  # a deviation above it stands for uniform magnitudes


def policy(text: str) -> Policy:
    """The policy of a string: "rand-m9-mstd0.5-inc1", "original-mstd0.5", "v0", "3a".

    What is not said is as in timm: magnitude 10, not increasing, no deviation. Raises ValueError for unknown parts.
    """
    name, *parts = text.split("-")
    if name == "rand":
        return RandAugment(**{**UNSAID, **_settings(text, parts, RAND)})
    if name in POLICIES:
        return AutoAugment(name, **_settings(text, parts, AUTO))
    if text == "3a":
        return ThreeAugment()
    raise ValueError(f"policy {text!r} is not known; use rand, {', '.join(POLICIES)} (with -parts) or 3a")


def _settings(text: str, parts: list[str], names: dict[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for part in parts:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
        field = names.get(match[1]) if match else None
        if match is None or field is None or field in settings:
            known = ", ".join(f"{name}<number>" for name in names)
            raise ValueError(f"part {part!r} of policy {text!r} is not known or comes twice; known are {known}")
        settings[field] = _number(text, part, field, float(match[2]))
    return settings


def _number(text: str, part: str, field: str, value: float) -> Any:
    kind = TYPES.get(field, float)
    if kind(value) != value:
        raise ValueError(f"part {part!r} of policy {text!r} is not {'0 or 1' if kind is bool else 'a whole number'}")
    return math.inf if field == "mstd" and value > UNIFORM else kind(value)
