"""The tables of pretraining."""

from pretraining_curves import path_of  # bench/pretraining_curves.py: a script's own folder is on its path
from tables import measured_on, picture, rows, table

ABOUT = (
    "`python bench/pretraining.py`: every recipe by its small preset, one seed; images are seen whole, where a run's "
    "own k-NN sees 0.875 of their sides. Runs differ: four of swav's convit_micro on the digits, by seed and machine, "
    "came to 67 to 90 %. Methods differ in how long their settings were looked for, on the digits' validation images: "
    "the tables show what learns, they rank nothing. mae's features are means over patches, which begin higher than "
    "the class token's."
)
DATA = {
    "digits": "Digits, 1,438 images, every method with its own number of epochs",
    "cifar-10": "CIFAR-10, 10,000 images of 32 px, 5,000 to validate",
    "imagenette": "Imagenette, 9,469 images at 64 px, 3,925 to validate",
}


def pretraining(*names: str, pictures: bool = False) -> str:
    """k-NN and linear probe by data, method and trunk; with pictures, the curves too."""
    parts = []
    for name in names:
        parts.append(of_one(name))
        if pictures:
            parts.append(picture("loss, spread and k-NN by epoch", path_of(name), page="docs"))
    return "\n".join([f"{ABOUT}\n", *parts])


def own_knobs(method: str, found: list[dict]) -> str:
    """The knobs that no other method's runs have: " (epsilon 0.03)"."""
    shared = {knob for r in found if r["method"] != method for knob in r["knobs"].items()}
    own = {knob for r in found if r["method"] == method for knob in r["knobs"].items()} - shared
    return f" ({', '.join(f'{name} {value}' for name, value in sorted(own))})" if own else ""


def of_one(name: str) -> str:
    """One data set's table."""
    found = rows(f"pretraining-{name}.jsonl")
    trunks = list(dict.fromkeys(r["trunk"] for r in found))
    of = {(r["method"], r["trunk"]): r for r in found}
    lines = []
    for method in dict.fromkeys(r["method"] for r in found):
        both = [of.get((method, t), {}) for t in trunks]
        numbers = [r.get(key) for r in both for key in ("knn20", "probe")]
        about_row = method + own_knobs(method, found), str(both[0].get("epoch", "-"))
        lines.append([*about_row, *("-" if n is None else f"{100 * n:.1f}" for n in numbers)])
    probe = "linear probe" if all(r.get("standardised") for r in found) else "linear probe, raw features"
    head = ["validation top-1, %", "epochs", *(f"{t}, {what}" for t in trunks for what in ("k-NN", probe))]
    return f"{DATA[name]}:\n\n{table(head, lines)}{measured_on(f'pretraining-{name}.jsonl')}"
