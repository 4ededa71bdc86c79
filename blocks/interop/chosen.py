"""The model that a recipe means: the one that its weights say they are of, else one of the recipe's list by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from blocks.interop.construction import build, describe
from blocks.interop.described import description_of
from blocks.interop.refit import (
    Size,
    at_size,
    classes_of,
    flat,
    image_size,
    pooling,
    with_drop_path,
    with_head,
    without_drops,
)
from blocks.interop.trusted import trusting
from blocks.layers.encoder import inner
from blocks.layers.rotary import RotaryAttention
from blocks.trunks.distilled import DistilledModel
from blocks.trunks.model import Model

Head = Literal["keep", "new", "fit"]
KNOBS = ("img_size", "patch_size", "global_pool", "pos_embed")
MAY_DIFFER = ("norm", "pos_embed", "locality_strength", "std", "dist_token", "num_prefix_tokens")  # by other knobs


class Wanted(Protocol):
    """The flags of a recipe that say what its model is; "" and 0 are not given."""

    @property
    def model(self) -> str:
        """The name of a factory."""

    @property
    def img_size(self) -> int:
        """Pixels."""

    @property
    def patch_size(self) -> int:
        """Pixels."""

    @property
    def global_pool(self) -> Literal["", "token", "avg"]:
        """What becomes the feature."""

    @property
    def pos_embed(self) -> Literal["", "learn", "sincos"]:
        """The kind of positions."""

    @property
    def trusted(self) -> tuple[str, ...]:
        """Packages or files of whose blocks a described model may be."""


def chosen(
    factories: Mapping[str, Callable[..., Any]],
    weights: str | Path | None,
    wanted: Wanted,
    *,
    num_classes: int,
    usual: Mapping[str, Any],
    head: Head = "new",
    drop_path_rate: float = 0.0,
) -> tuple[Any, Size]:
    """(the model, the size of its images) for weights: of a run, or of a file that says its model, that one.

    For other weights, and for none, a factory makes it, and what is not wanted otherwise is as in `usual`. Where the
    weights say their model, a wanted img_size or global_pool wins, and what cannot be otherwise (model, patch_size,
    pos_embed) must agree. Such a model drops nothing but paths, at `drop_path_rate`. `head` is `load_weights`'s: with
    "keep" theirs must be of `num_classes`; 0 is no head. Raises ValueError with both values for a contradiction.
    """
    given = {name: getattr(wanted, name) for name in KNOBS if getattr(wanted, name)}
    said = None if weights is None else description_of(weights)
    if said is None:
        made = {name: value for name, value in usual.items() if name != "model"} | given
        rest = {"num_classes": num_classes, "drop_path_rate": drop_path_rate}
        return factories[wanted.model or usual["model"]](**rest, **made), made["img_size"]
    description, file = said
    described = with_drop_path(without_drops(description), drop_path_rate) if _has_layers(description) else None
    found = None if described is None else build(described, trusting(wanted.trusted))
    if not isinstance(found, Model | DistilledModel):
        raise ValueError(
            f"{file} describes a {description.get('block')}: no model of this library's layers; load it in Python"
        )
    _agree(found, given, file)
    if wanted.model:
        _same(factories[wanted.model], wanted.model, found, file)
    if "global_pool" in given and isinstance(found, Model):
        found = pooling(found, given["global_pool"])
    size = given.get("img_size") or image_size(found) or usual["img_size"]
    return _headed(at_size(found, size), num_classes, head, file), size


def _has_layers(description: Mapping[str, Any]) -> bool:
    trunk = description.get("trunk")
    return isinstance(trunk, Mapping) and isinstance(trunk.get("blocks"), list)


def _agree(found: Any, given: Mapping[str, Any], file: Path) -> None:
    positions = {"PositionEmbedding": "learn", "SinCosPosition": "sincos"}
    rotary = any(isinstance(getattr(inner(layer), "attn", None), RotaryAttention) for layer in found.trunk.blocks)
    own = {
        "patch_size": found.trunk.patch_embed.patch_size,
        "pos_embed": "rope" if rotary else positions.get(type(found.trunk.pos_embed).__name__, "none"),
    }
    if isinstance(found, DistilledModel):
        own["global_pool"] = "token"
    for name, value in own.items():
        if given.get(name, value) != value:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} {given[name]} contradicts {file}, which says {value}; leave the flag out")


def _same(factory: Callable[..., Any], name: str, found: Any, file: Path) -> None:
    """Whether the factory makes a trunk of the found one's shape."""
    size = found.trunk.patch_embed.patch_size
    ours, theirs = (
        {n: v for n, v in flat(without_drops(describe(trunk))).items() if not set(n.split(".")) & set(MAY_DIFFER)}
        for trunk in (factory(num_classes=0, img_size=size, patch_size=size).trunk, found.trunk)
    )
    for place in (*ours, *theirs):
        if ours.get(place) != theirs.get(place):
            values = (str(v.get(place)).rpartition(".")[2] for v in (ours, theirs))
            raise ValueError(
                f"--model {name} contradicts {file}: {place} {' there, '.join(reversed(list(values)))} in {name}; "
                "leave --model out"
            )


def _headed(model: Any, num_classes: int, head: Head, file: Path) -> Any:
    own = classes_of(model.head)
    if head == "keep" and model.head is not None and own != num_classes:
        what = f"a {type(model.head).__name__}, which does not classify" if own is None else f"{own} classes"
        raise ValueError(
            f"the head that {file} describes has {what}, and the data have {num_classes} classes; recipes/finetune.py "
            "and recipes/linear_probe.py give it another"
        )
    return model if own == num_classes and head != "new" else with_head(model, num_classes)
