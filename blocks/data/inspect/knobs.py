"""The transform that flags describe: what they leave out is as the transform, or the preset of views, has it."""

import argparse
import inspect
from collections.abc import Callable
from typing import Any

import attrs

from blocks.data import presets
from blocks.data.augment.pillow import FILTERS
from blocks.data.erasing import RandomErasing
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.transforms import HOMES, TrainTransform

PRESETS: dict[str, Callable[..., presets.Views]] = {
    name: getattr(presets, f"{name}_views")
    for name in ("simclr", "moco_v2", "moco_v3", "byol", "barlow", "vicreg", "swav", "dino", "dinov2", "ibot", "mae")
}
KNOBS: dict[str, dict[str, Any]] = {  # a field of transforms and presets -> its flag
    "scale": dict(nargs=2, type=float, metavar=("LOW", "HIGH"), help="area of the crop"),
    "flip": dict(type=float, metavar="PROB", help="of a mirrored picture"),
    "interpolation": dict(choices=tuple(FILTERS)),
    "policy": dict(metavar="NAME", help="such as rand-m9-mstd0.5-inc1, original, v0, 3a"),
    "color_jitter": dict(nargs="+", type=float, metavar="S", help="1, 3 or 4 numbers: brightness ... hue"),
    "local_size": dict(type=int, metavar="PIXELS", help="of the small crops of --views"),
    "local_scale": dict(nargs=2, type=float, metavar=("LOW", "HIGH"), help="area of the small crops of --views"),
    "num_local": dict(type=int, metavar="N", help="small crops of --views"),
    "strength": dict(type=float, metavar="S", help="of the colour jitter of --views"),
    "sigma": dict(nargs=2, type=float, metavar=("LOW", "HIGH"), help="of the blur of --views, in pixels"),
}
AFTER = ("erase", "mixup", "cutmix")  # the transform


@attrs.frozen
class Seeing:
    """All that is done to a picture on its way to the model, and the words for it."""

    transform: TrainTransform | MultiCrop
    erase: RandomErasing | None
    mix: Mixing | None
    title: str


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `seeing` reads."""
    group = parser.add_argument_group("the transform of --sheet")
    group.add_argument(
        "--img-size", nargs="+", type=int, metavar="PIXELS",
        help="height and width, or one for both (default: 224, or less: the median short side of the samples drawn)",
    )  # fmt: skip
    group.add_argument("--views", choices=tuple(PRESETS), help="the views of a self-supervised method")
    for name, settings in KNOBS.items():
        group.add_argument(_flag(name), **settings)
    group.add_argument("--augment", choices=HOMES, default=HOMES[0], help="where it is done (default: workers)")
    group.add_argument("--erase", type=float, default=0.0, metavar="PROB", help="of random erasing")
    mixed = "the pictures of a column are one batch, and mixed with each other"
    group.add_argument("--mixup", type=float, default=0.0, metavar="ALPHA", help=mixed)
    group.add_argument("--cutmix", type=float, default=0.0, metavar="ALPHA", help=mixed)


def given_flags(options: argparse.Namespace) -> list[str]:
    """Those of `add_flags` that are there, and say another thing than without them."""
    names = ("img_size", "views", *KNOBS, "augment", *AFTER)
    unsaid = {"augment": HOMES[0], **dict.fromkeys(AFTER, 0.0)}
    return [_flag(name) for name in names if getattr(options, name) != unsaid.get(name)]


def seeing(options: argparse.Namespace, short_side: int) -> Seeing:
    """What the flags describe, for pictures of this median short side.

    Raises ValueError for a flag that is not for these views, or a value that a transform refuses.
    """
    size = _value(options.img_size or [min(224, short_side)])
    knobs = _given(options)
    transform: TrainTransform | MultiCrop
    if options.views:
        views: Any = PRESETS[options.views](size, **knobs)
        transform = MultiCrop(views, home=options.augment)
    else:
        transform = TrainTransform(size, home=options.augment, **knobs)
    erase = RandomErasing(options.erase) if options.erase else None
    mix = Mixing(1, options.mixup, options.cutmix) if options.mixup or options.cutmix else None
    return Seeing(transform, erase, mix, _title(options, size, knobs))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    make = PRESETS[options.views] if options.views else TrainTransform
    given = {name: getattr(options, name) for name in KNOBS if getattr(options, name) is not None}
    taken = inspect.signature(make).parameters
    for name in given:
        if name not in taken:
            known = ", ".join(_flag(knob) for knob in KNOBS if knob in taken)
            views = f"with --views {options.views}" if options.views else "without --views"
            raise ValueError(f"{_flag(name)} has no use {views}, which takes {known}")
    return {name: _value(value) for name, value in given.items()}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(given: Any) -> Any:
    """Several numbers as a tuple, one of them as itself."""
    if not isinstance(given, list):
        return given
    return given[0] if len(given) == 1 else tuple(given)


def _title(options: argparse.Namespace, size: Any, knobs: dict[str, Any]) -> str:
    later = {name: value for name in AFTER if (value := getattr(options, name))}
    said = {"img_size": size, **knobs, **later, "augment": options.augment, "seed": options.seed}
    name = f"{options.views} views" if options.views else "random resized crops"
    return f"{name}: " + ", ".join(f"{name} {_plain(value)}" for name, value in said.items())


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
