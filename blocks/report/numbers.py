"""Values as people read them."""

import re
from collections.abc import Sequence
from typing import Any

SUBJECTS = {"val": "validation", "ema": "EMA", "train": "training"}
ACCURACIES = ("top1", "top5", "knn")  # in a metric's name
SHARES = (*ACCURACIES, "used")  # likewise: its value is a share of 1


def shown(value: Any) -> str:
    """A setting or a number in a cell: short, and the same for equal values."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shown, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def metric(name: str, value: float | None) -> str:
    """A metric's value, accuracies in percent."""
    if value is None:
        return "not finite"
    if is_share(name):
        return f"{value:.2%}"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else shown(value)


def is_share(name: str) -> bool:
    """Whether a metric of this name is a share of 1, as accuracies are."""
    return any(word in name for word in SHARES)


def is_accuracy(name: str) -> bool:
    """Whether more is better, by a metric's name."""
    return any(word in name for word in ACCURACIES)


def duration(seconds: float) -> str:
    """12.3 s, 4 min 5 s, 3 h 20 min."""
    seconds = round(seconds, 1) if seconds < 59.95 else round(seconds)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def counted(count: int, thing: str) -> str:
    """1 image, 2,000 images."""
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{count:,} {thing if count == 1 else plural}"


def spoken(name: str) -> str:
    """A metric's name in words: "validation top-1", "k-NN (20) of the teacher"."""
    subject, _, rest = name.partition("_")
    subject = SUBJECTS.get(subject, subject)
    rest = re.sub(r"^knn(\d+)$", r"k-NN (k = \1)", rest)
    rest = re.sub(r"top([15])", r"top-\1", rest)
    return f"{subject} {rest.replace('_', ' ')}".strip()
