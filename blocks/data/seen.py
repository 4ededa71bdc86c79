"""What a loader shows, as values that JSON holds: a run keeps them, and whoever looks at it later sees the same."""

from collections.abc import Mapping
from typing import Any

import attrs

from blocks.data.augment.boxes import Size
from blocks.data.index.index import Index, open_shards
from blocks.data.storage.shard import RemoteShard
from blocks.data.transforms import EvalTransform


def description(index: Index, transform: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    """{"shards", "samples", "num_classes", "classes" or None, "mean", "std", "transform"}.

    Of a transform other than an `EvalTransform` there is its name, in place of its fields.
    """
    cut = attrs.asdict(transform) if type(transform) is EvalTransform else type(transform).__qualname__
    return {
        "shards": [shard.url if isinstance(shard, RemoteShard) else shard.name for shard in index.shards],
        "samples": len(index),
        "num_classes": index.num_classes,
        "classes": index.classes,
        "mean": mean,
        "std": std,
        "transform": cut,
    }


def seen_as(
    told: Mapping[str, Any], *, img_size: Size = 0, crop_pct: float = 0.0, interpolation: str = ""
) -> dict[str, Any]:
    """What a loader is given to see as a description tells: {"transform", "mean", "std"}, those that it tells.

    What is given (not 0 or "") wins. Raises ValueError where it tells a transform that is none of this library's.
    """
    cut = told.get("transform") or {}
    given = {"img_size": img_size, "crop_pct": crop_pct, "interpolation": interpolation}
    given = {name: value for name, value in given.items() if value}
    if not isinstance(cut, Mapping) and not given.keys() >= {"img_size", "crop_pct"}:
        raise ValueError(
            f"the images were cut by {cut}, a transform of its own that only its program has; give img_size and "
            "crop_pct to have an EvalTransform in its place"
        )
    cut = {**(cut if isinstance(cut, Mapping) else {}), **given}
    if not cut.get("img_size"):
        raise ValueError("nothing tells the size of the images; give img_size")
    if isinstance(cut["img_size"], list):
        cut["img_size"] = tuple(cut["img_size"])
    colours = {name: tuple(told[name]) for name in ("mean", "std") if name in told}
    return {"transform": EvalTransform(**cut), **colours}


def shown_shards(told: Mapping[str, Any]) -> Index:
    """The samples of a description. Raises ValueError where it tells no shards or they hold other samples by now."""
    if not told.get("shards"):
        raise ValueError("nothing tells the shards")
    found = open_shards(told["shards"], need_labels=bool(told.get("num_classes")))
    if len(found) != told["samples"]:
        raise ValueError(f"the shards hold {len(found)} samples, and {told['samples']} of them were seen")
    return found
