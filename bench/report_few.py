"""The tables of what helps where images are few: locality, and a teacher."""

import json

from sample_efficiency import plot  # bench/sample_efficiency.py: a script's own folder is on its path
from tables import PICTURES, RESULTS, measured_on, picture, rows, table

PICTURE = PICTURES / "few-images.png"
SHARES = "few-cifar-10-mean-long.jsonl"  # 5, 10, 30 and 100 % of the training images, as long as a lead takes to show
TRIED = (
    "few-cifar-10-why.jsonl",
    "few-cifar-10.jsonl",
    "few-cifar-10-crops.jsonl",
    "few-cifar-10-long.jsonl",
    "few-cifar-10-mean.jsonl",
    SHARES,
)
READS = {"token": "the class token", "avg": "the mean of patches"}
ABOUT = (
    "CIFAR-10, 6 layers, mirrored, the same number of steps whatever the share; validation top-1, %, the mean of n "
    "seeds.\n"
)
LINK = "What hides ConViT's lead, setting by setting: [docs/results.md](docs/results.md).\n"
WHY = (
    "With 9 heads a gated layer begins as a 3 x 3 convolution, an offset a head; with 4 it looks 2 x 2 patches wide. "
    "ConViT's class token joins after the local layers, so that of 6 it looks in 2, DeiT's in all: reading the mean of "
    "patches takes that away. What random crops leave of the lead one run does not tell: without them seeds differ by "
    "more than it. With more images the lead takes more steps to show. Four times as many patches changed nothing in "
    "one run. The paper's own regime (12 layers, DeiT's augmentation, hundreds of epochs) wants a GPU.\n"
)
TAUGHT = {  # the runs that `bench/report.py --keep` kept under these names
    "learning-distillation-teacher": "the teacher, a ResNet-18",
    "learning-distillation-alone": "DeiT from labels alone",
    "learning-distillation-taught": "the same DeiT, taught",
}


def few_images() -> str:
    """ConViT against DeiT at each share of the training images."""
    return "\n".join([compared(SHARES), LINK, picture("top-1 by share of the images", PICTURE)])


def draw_few_images() -> None:
    plot(rows(SHARES), PICTURE)


def few_images_tried() -> str:
    """Every setting, and what each of them changes."""
    return f"{compared(*TRIED)}\n{WHY}"


def compared(*names: str) -> str:
    """A line a setting and share: both models' means, and ConViT's lead seed by seed."""
    groups: dict[tuple, dict[tuple, float]] = {}
    for name in names:
        for r in rows(name):
            groups.setdefault((*setting(r), f"{100 * r['share']:g} %"), {})[r["model"], r["seed"]] = 100 * r["top1"]
    about = ["patches", "heads of channels", "the head reads", "crops", "steps of images", "share of the images"]
    head = [*about, "ConViT", "DeiT", "ConViT's lead", "n"]
    lines = [[*about, *both(top1, seeds)] for about, top1 in groups.items() if (seeds := pairs(top1))]
    return f"{ABOUT}\n{table(head, lines)}{measured_on(*names)}"


def setting(row: dict) -> tuple[str, ...]:
    grid, smallest = row["img_size"] // row["patch_size"], row["scale"][0]
    crops = "none" if smallest == 1 else f"from {100 * smallest:g} %"
    steps = f"{row['steps']:,} of {row['batch_size']}"
    heads = f"{row['heads']} of {row['width'] // row['heads']}"
    return f"{grid} x {grid}", heads, READS[row.get("global_pool", "token")], crops, steps


def pairs(top1: dict[tuple, float]) -> list[int]:
    """The seeds with which both models were trained."""
    return sorted(seed for kind, seed in top1 if kind == "convit" and ("deit", seed) in top1)


def both(top1: dict[tuple, float], seeds: list[int]) -> tuple[str, ...]:
    """Each model's mean, ConViT's leads, and the number of seeds."""
    means = (sum(top1[kind, seed] for seed in seeds) / len(seeds) for kind in ("convit", "deit"))
    leads = (f"{top1['convit', seed] - top1['deit', seed]:+.1f}" for seed in seeds)
    return *(f"{mean:.1f}" for mean in means), ", ".join(leads), str(len(seeds))


def taught() -> dict[str, dict]:
    """The kept runs of distillation by name."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in TAUGHT}


def distillation() -> str:
    """A student with and without its teacher."""
    runs, lines = taught(), []
    for name, run in runs.items():
        epochs = run["epochs"]
        shown = epochs[(len(epochs) - 1) // 2], epochs[-1]
        lines.append([TAUGHT[name], str(len(epochs)), *(f"{100 * e['val_top1']:.1f}" for e in shown)])
    head = ["CIFAR-10, validation top-1, %", "epochs", "half-way", "at the end"]
    first = next(iter(runs.values()))
    about = f"One run each, of {first['epochs'][0]['images']:,} images an epoch."
    return f"{about}\n\n{table(head, lines)}\n{first['hardware']}\n"


def distillation_commands() -> str:
    commands = dict.fromkeys(run["command"] for run in taught().values())
    return "```bash\n" + "\n".join(commands) + "\n```\n"
