"""The README's tables of what helps where images are few: locality, and a teacher."""

import json

from sample_efficiency import plot  # bench/sample_efficiency.py: a script's own folder is on its path
from sample_efficiency import table as by_share
from tables import RESULTS, ROOT, measured_on, rows, table

PICTURE = ROOT / "docs" / "pictures" / "few-images.png"
FEW = ("few-cifar-10.jsonl", "few-cifar-10-long.jsonl", "few-cifar-10-crops.jsonl")
MEAN = ("few-cifar-10-mean.jsonl", "few-cifar-10-mean-long.jsonl")  # both models read the mean of patches
MATTERS = "few-cifar-10-why.jsonl"  # short runs with 5 % of the images, one thing changed at a time
READS = {"token": "the class token", "avg": "the mean of patches"}
WHY = (
    "After 1,000 steps ConViT's lead is no larger than seeds of one model differ. After 3,000 it is ahead in each "
    "pair, in points {leads}. Crops, which teach what locality brings, took most of the lead away "
    "in the pair that was run with them. The paper's regime (12 layers, DeiT's augmentation, hundreds of epochs) wants "
    "a GPU."
)
SHALLOW = (
    "A part is how the image is read: ConViT's class token joins after the local layers, so that of 6 it looks in 2, "
    "DeiT's in all. Where both read the mean of patches instead, with 4 heads, these short runs change by {convit} "
    "points for ConViT and by {deit} for DeiT. Four times as many patches change nothing."
)
NINE = (
    "With 9 heads, of which local layers make a 3 x 3 convolution at the start, and the mean of patches, ConViT's lead "
    "is, pair by pair, in points {short} after 1,000 steps, {long} after 3,000."
)
TAUGHT = {  # the runs that `bench/report.py --keep` kept under these names
    "learning-distillation-teacher": "the teacher, a ResNet-18",
    "learning-distillation-alone": "DeiT from labels alone",
    "learning-distillation-taught": "the same DeiT, taught",
}


def few_images() -> str:
    """ConViT against DeiT at each share of the training images, the first file's with a picture."""
    parts, of_mean = ([of_one(name) for name in names if rows(name)] for names in (FEW, MEAN))
    if not parts:
        return ""
    plot(rows(FEW[0]), PICTURE)
    shown = f"\n![top-1 by share of the images]({PICTURE.relative_to(ROOT)})\n"
    nine = NINE.format(short=leads(MEAN[0]), long=leads(MEAN[1]))
    text = [*parts, f"{WHY.format(leads=leads(FEW[1]))}\n{what_matters()}", *of_mean, f"{nine}\n{shown}"]
    return "\n".join(["\n### Few images\n", *text])


def what_matters() -> str:
    """Both models where one thing is another at a time, and what reading the mean of patches does to each."""
    groups: dict[tuple, list[dict]] = {}
    for r in rows(MATTERS):
        grid = r["img_size"] // r["patch_size"]
        groups.setdefault((grid, r["heads"], r["global_pool"], r["steps"], r["batch_size"]), []).append(r)
    lines, mean = [], {}
    for (grid, heads, pool, steps, batch), found in groups.items():
        ((_, means, seeds),) = by_share(found)
        mean[grid, heads, pool] = means
        about = (f"{grid} x {grid}", heads, READS[pool], f"{steps} of {batch}")
        lines.append([*map(str, about), *(f"{100 * means[k]:.1f}" for k in ("convit", "deit")), str(seeds)])
    gain = {kind: f"{100 * (mean[8, 4, 'avg'][kind] - mean[8, 4, 'token'][kind]):+.1f}" for kind in ("convit", "deit")}
    head = ["patches", "heads", "the head reads", "steps of images", "ConViT", "DeiT", "n"]
    return f"\n{table(head, lines)}{measured_on(MATTERS)}\n{SHALLOW.format(**gain)}\n"


def leads(name: str) -> str:
    """By how many points ConViT is ahead, seed by seed: "2.5, 1.2, 1.2 with 5 % of the images, 3.3 with 10 %"."""
    of = {(r["share"], r["seed"], r["model"]): r["top1"] for r in rows(name)}
    points: dict[float, list[str]] = {}
    for share, seed in sorted({key[:2] for key in of}):
        points.setdefault(share, []).append(f"{100 * (of[share, seed, 'convit'] - of[share, seed, 'deit']):.1f}")
    shown = [f"{', '.join(numbers)} with {100 * share:g} %" for share, numbers in points.items()]
    return ", ".join([f"{shown[0]} of the images", *shown[1:]])


def of_one(name: str) -> str:
    """One file's table."""
    found = rows(name)
    lines = [
        [
            f"{100 * share:g} %",
            *(f"{100 * means[k]:.1f}" if k in means else "-" for k in ("convit", "deit")),
            str(seeds),
        ]
        for share, means, seeds in by_share(found)
    ]
    r = found[0]
    grid = r["img_size"] // r["patch_size"]
    crops = "no crops" if r["scale"][0] == 1 else f"crops from {100 * r['scale'][0]:g} % of the area on"
    read = ", the mean of patches read" if r.get("global_pool") == "avg" else ""
    about = (
        f"CIFAR-10, {grid} x {grid} patches, width {r['width']}, depth {r['depth']}, {r['heads']} heads{read}, "
        f"{r['steps']} steps of {r['batch_size']} images whatever the share, mirrored, {crops}; validation top-1, %."
    )
    return f"{about}\n\n{table(['training images', 'ConViT', 'DeiT', 'n'], lines)}{measured_on(name)}"


def distillation() -> str:
    """A student with and without its teacher."""
    runs = {n: json.loads((RESULTS / f"{n}.json").read_text()) for n in TAUGHT if (RESULTS / f"{n}.json").exists()}
    if not runs:
        return ""
    lines = []
    for name, run in runs.items():
        epochs = run["epochs"]
        shown = epochs[(len(epochs) - 1) // 2], epochs[-1]
        lines.append([TAUGHT[name], str(len(epochs)), *(f"{100 * e['val_top1']:.1f}" for e in shown)])
    commands = "\n".join(dict.fromkeys(run["command"] for run in runs.values()))
    head = ["CIFAR-10, validation top-1, %", "epochs", "half-way", "at the end"]
    first = next(iter(runs.values()))
    about = f"One run each, of {first['epochs'][0]['images']:,} images an epoch."
    return f"\n### Distillation\n\n{about}\n\n```\n{commands}\n```\n\n{table(head, lines)}\n{first['hardware']}\n"
