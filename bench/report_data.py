"""The tables of loading and augmentation."""

from tables import measured_on, rows, spread, table  # bench/tables.py: a script's own folder is on its path

LOADERS = "loader-cpu.jsonl"
STAGES = {
    "read": "read",
    "header": "header",
    "draw": "draw",
    "decode": "decode the crop",
    "resize": "resize",
    "normalise": "to normalised floats",
    "entropy": "entropy decoding alone",
    "whole": "decoding the whole",
}


def loader() -> str:
    """Whole loaders beside ours."""
    found = [row for row in rows(LOADERS) if "loaders" in row]
    fastest = sorted(
        {name for row in found for name in row["loaders"]},
        key=lambda name: -max(r["loaders"][name]["images_per_second"][0] for r in found if name in r["loaders"]),
    )
    lines = [[name, *(_speed(row["loaders"].get(name)) for row in found)] for name in fastest]
    cases = (f"{row['row']}, {row['workers'] or 'no'} worker" for row in found)
    head = ["images/s of one core; over ImageFolder; s to the first batch", *cases]
    n = found[0]["rounds"] if found else 0
    return f"{table(head, lines)}\nn {n}.\n{measured_on(LOADERS)}"


def _speed(row: dict | None) -> str:
    if row is None:
        return "-"
    speed, over = row["images_per_second"][0], spread(row["over_image_folder"])
    return f"{speed:,.0f}; {over}; {row['first_batch_seconds']:.2f}"


def stages() -> str:
    """Where our time goes: milliseconds of an image, stage by stage."""
    found = [row for row in rows(LOADERS) if "milliseconds" in row]
    lines = [[row["row"].partition(",")[0], *(f"{row['milliseconds'][s]:.3f}" for s in STAGES)] for row in found]
    return table(["ms of an image", *STAGES.values()], lines) + measured_on(LOADERS)


def augment() -> str:
    kinds = ("workers", "device", "timm", "torchvision v2")
    names = {"crop": "crop and flip", "policy": "crop, flip, rand-m9-mstd0.5-inc1"}
    lines = [
        [names[r["row"]], *(f"{r['images_per_second'][k]:.0f}" for k in kinds), spread(r["over_timm"]["workers"])]
        for r in rows("augment-cpu.jsonl")
    ]
    head = ["images/s, 256 to 224 px", *kinds, "timm's time / workers'"]
    return table(head, lines) + measured_on("augment-cpu.jsonl")
