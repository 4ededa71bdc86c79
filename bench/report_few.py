"""The README's tables of what helps where images are few: locality, and a teacher."""

import json

from sample_efficiency import plot  # bench/sample_efficiency.py: a script's own folder is on its path
from sample_efficiency import table as by_share
from tables import RESULTS, ROOT, measured_on, rows, table

PICTURE = ROOT / "docs" / "pictures" / "few-images.png"
TAUGHT = {  # the runs that `bench/report.py --keep` kept under these names
    "learning-distillation-teacher": "the teacher, a ResNet-18",
    "learning-distillation-alone": "DeiT from labels alone",
    "learning-distillation-taught": "the same DeiT, taught",
}


def few_images() -> str:
    """ConViT against DeiT at each share of the training images."""
    found = rows("few-cifar-10.jsonl")
    if not found:
        return ""
    lines = [
        [
            f"{100 * share:g} %",
            *(f"{100 * means[k]:.1f}" if k in means else "-" for k in ("convit", "deit")),
            str(seeds),
        ]
        for share, means, seeds in by_share(found)
    ]
    r = found[0]
    about = (
        f"CIFAR-10, width {r['width']}, depth {r['depth']}, {r['heads']} heads, {r['steps']} steps of "
        f"{r['batch_size']} images whatever the share; validation top-1, %."
    )
    plot(found, PICTURE)
    head = ["training images", "ConViT", "DeiT", "n"]
    shown = f"\n![top-1 by share of the images]({PICTURE.relative_to(ROOT)})\n"
    return f"\n### Few images\n\n{about}\n\n{table(head, lines)}{measured_on('few-cifar-10.jsonl')}{shown}"


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
