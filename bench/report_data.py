"""The README's tables of loading and augmentation."""

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
    """Whole loaders beside ours, and where our time goes."""
    found = [row for row in rows(LOADERS) if "loaders" in row]
    lines = []
    for row in found:
        where = f"{row['workers']} worker" if row["workers"] else "no worker"
        for name, r in sorted(row["loaders"].items(), key=lambda item: -item[1]["images_per_second"][0]):
            speed = f"{r['images_per_second'][0]:,.0f}"
            first = f"{r['first_batch_seconds']:.2f}"
            lines.append([f"{row['row']}, {where}", name, speed, spread(r["over_image_folder"]), first])
    head = ["JPEGs on one core", "loader", "images/s", "over ImageFolder", "first batch, s"]
    n = found[0]["rounds"] if found else 0
    return f"{table(head, lines)}\nn {n}.\n\n{stages()}{measured_on(LOADERS)}"


def stages() -> str:
    """Milliseconds of an image, stage by stage."""
    found = [row for row in rows(LOADERS) if "milliseconds" in row]
    lines = [[row["row"].partition(",")[0], *(f"{row['milliseconds'][s]:.3f}" for s in STAGES)] for row in found]
    return table(["ms of an image", *STAGES.values()], lines)


def augment() -> str:
    kinds = ("workers", "device", "timm", "torchvision v2")
    names = {"crop": "crop and flip", "policy": "crop, flip, rand-m9-mstd0.5-inc1"}
    lines = [
        [names[r["row"]], *(f"{r['images_per_second'][k]:.0f}" for k in kinds), spread(r["over_timm"]["workers"])]
        for r in rows("augment-cpu.jsonl")
    ]
    head = ["images/s, 256 to 224 px", *kinds, "timm's time / workers'"]
    return table(head, lines) + measured_on("augment-cpu.jsonl")
