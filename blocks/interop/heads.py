"""Heads of published methods by the names of ours: theirs is an nn.Sequential, ours a `ProjectionMlp` or `DinoHead`."""

import re
from collections.abc import Mapping

from blocks.interop.renaming import renamed, table
from blocks.tree import Flat

Place = tuple[int, ...]  # in a sequence of modules, or of sequences
RENAMED = table(
    (r"^heads\.0\.prototypes0\.(weight_[gv])$", r"head.last_layer.\1"),  # VISSL's DINO
    (r"^heads\.0\.prototypes(\d+)\.weight$", r"prototypes.\1.weight"),  # VISSL's SwAV
    (r"^prototypes\.prototypes(\d+)\.weight$", r"prototypes.\1.weight"),  # SwAV, several
    (r"^prototypes\.weight$", r"prototypes.0.weight"),
    (r"^projection_head\.(weight|bias)$", r"head.\1"),  # SwAV without a hidden layer
    (r"^(?:head|heads\.0)\.mlp\.(weight|bias)$", r"head.layers.0.\1"),  # DINO likewise
    (r"^head\.last_layer\.parametrizations\.weight\.original0$", "head.last_layer.weight_g"),
    (r"^head\.last_layer\.parametrizations\.weight\.original1$", "head.last_layer.weight_v"),
)
SEQUENCE = re.compile(
    r"^(?P<part>predictor|head|projection_head|head\.mlp|heads\.\d+\.(?:\d+\.)?(?:clf|projection_head|mlp))"
    r"\.(?P<place>\d+)\.(?P<leaf>\w+)$"
)
COUNT = "num_batches_tracked"  # torch's batch norm counts, ours does not


def as_ours(leaves: Flat) -> Flat:
    """The leaves of any model, those of heads, predictors and prototypes by our names where they are as ours.

    A linear layer's bias before a batch norm, which takes it away, is taken off the running mean instead.
    """
    leaves = {renamed(name, RENAMED): leaf for name, leaf in leaves.items()}
    for part in ("head", "predictor"):
        matches = {name: match for name in leaves if (match := SEQUENCE.match(name)) and _part(match) == part}
        found = _projection(_modules(leaves, matches))
        if found:
            rest = {name: leaf for name, leaf in leaves.items() if name not in matches}
            alone = "layers.1.weight" not in found and not any(".mlp." in name for name in matches)
            leaves = rest | {f"{part}.{_alone(name) if alone else name}": leaf for name, leaf in found.items()}
    return leaves


def _part(match: re.Match) -> str:
    return "predictor" if match["part"] == "predictor" else "head"


def _alone(name: str) -> str:
    """The name in a `LinearHead`: "layers.0.weight" -> "weight"."""
    return name.removeprefix("layers.0.")


def _modules(leaves: Flat, matches: Mapping[str, re.Match]) -> dict[Place, Flat]:
    """Leaves by the places of their modules, in order: {"heads.1.clf.0.bias": t} -> {(1, 0): {"bias": t}}."""
    found: dict[Place, Flat] = {}
    for name, match in matches.items():
        place = tuple(int(number) for number in re.findall(r"\d+", f"{match['part']}.{match['place']}"))
        found.setdefault(place, {})[match["leaf"]] = leaves[name]
    return dict(sorted(found.items()))


def _projection(modules: Mapping[Place, Flat]) -> Flat | None:
    """Leaves of a `ProjectionMlp`; None where modules are no chain of linear layers, batch norms and activations."""
    layers: list[Flat] = []
    norms: list[Flat] = []
    before: Place = ()
    for place, module in modules.items():
        width = layers[-1]["weight"].shape[0] if layers else None
        if "weight" in module and module["weight"].ndim == 2:
            if layers and (module["weight"].shape[1] != width or _adjoin(before, place)):
                return None  # nothing stands between the two
            layers.append(module)
            norms.append({})
        elif layers and not norms[-1] and all(t.shape == (width,) for n, t in module.items() if n != COUNT):
            norms[-1] = module
        else:
            return None
        before = place
    return _named(layers, norms)


def _adjoin(before: Place, place: Place) -> bool:
    return before[:-1] == place[:-1] and before[-1] + 1 == place[-1]


def _named(layers: list[Flat], norms: list[Flat]) -> Flat:
    found: Flat = {}
    for i, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        found |= {f"layers.{i}.{name}": leaf for name, leaf in layer.items()}
        bias = found.pop(f"layers.{i}.bias", None) if norm else None
        moved = {} if bias is None or "running_mean" not in norm else {"running_mean": norm["running_mean"] - bias}
        place = f"norms.{i}" if i < len(layers) - 1 else "final_norm"
        found |= {f"{place}.{name}": leaf for name, leaf in (norm | moved).items()}
    return found
