"""Write the results' figures from the files in bench/results, so that none is typed by hand.

The README gets what decides, docs/results.md the commands, curves and all that was tried.

python bench/report.py                                # rewrite the parts between the two marks
python bench/report.py --keep NAME RUN "COMMAND"      # copy a run's learning curve to bench/results first
"""

import argparse
import json
from pathlib import Path

from convit import WIDTHS  # bench/convit.py: a script's own folder is on its path
from measure import hardware
from pretraining_curves import draw_pretraining
from report_data import augment, loader, stages
from report_few import distillation, distillation_commands, draw_few_images, few_images, few_images_tried
from report_gpu import gpu
from report_learning import curves, learning
from report_pretraining import pretraining
from report_traffic import traffic
from tables import RESULTS, ROOT, measured_on, rows, spread, table

BEGIN, END = "<!-- results: written by bench/report.py -->\n", "<!-- end of results -->\n"
GATED = 10  # of ConViT's 12 layers
PRETRAINED = "digits", "cifar-10", "imagenette"


def convit() -> str:
    lines = [
        [
            f"{r['size']}, {r['resolution']} px, batch {r['batch']}",
            spread(r["time_over_vit"]),
            spread(r["timm_over_ours"]),
            f"{r['kept_over_timm']:.3f}",
            str(r["rounds"]),
        ]
        for r in rows("convit-cpu.jsonl")
    ]
    head = ["ConViT", "our time / plain ViT's", "timm's time / ours", "activation memory / timm's", "n"]
    return table(head, lines) + measured_on("convit-cpu.jsonl") + weights_kept()


def weights_kept() -> str:
    """How much of ConViT's memory is no activation."""
    parts = []
    for r in rows("convit-cpu.jsonl"):
        weights, kept = GATED * 3 * WIDTHS[r["size"]][0] ** 2 * 4, r["kept_bytes"]
        if r["resolution"] == 224:
            share = (kept["convit"] - weights) / kept["timm"]
            parts.append(f"{weights / 1e6:.0f} MB of {r['size']}'s, {share:.3f} of timm's without them")
    return (
        "\nA gated layer makes q, k and v in one product, and autograd keeps their weights put together: whatever the "
        f"batch, {'; '.join(parts)}.\n"
    )


def step() -> str:
    lines = [
        [f"{r['model']}, batch {r['batch']}", spread(r["module / ours"]), spread(r["same work / ours"]), str(r["n"])]
        for r in rows("step-cpu.jsonl")
    ]
    lines += [
        [
            f"2 gloo processes, {r['depth']} x {r['width']}, against DDP",
            spread(r["DDP / ours"]),
            spread(r["same work / ours"]),
            f"{r['launches']} x {r['rounds']}",
        ]
        for r in rows("ddp-cpu.jsonl")
    ]
    head = ["whole step, donated state", "their time / ours", "theirs with our checks / ours", "n"]
    return table(head, lines) + measured_on("step-cpu.jsonl", "ddp-cpu.jsonl")


def losses() -> str:
    """Self-supervised losses beside lightly's."""
    names = {
        "moco": "MoCo, loss and enqueue: 256 x 65,536 x 128",
        "simclr": "SimCLR, 1,024 images x 128",
        "sinkhorn": "Sinkhorn, 256 x 3,000, 3 iterations, of cosines",
        "any range": "Sinkhorn, the same, scores of any range",
        "swav": "SwAV loss, 2 + 6 crops, 256 x 3,000",
    }
    files = "contrastive-cpu.jsonl", "clustering-cpu.jsonl"
    lines = [
        [
            names[r["row"]],
            spread(r["lightly_over_ours"]),
            *(f"{r['extra_megabytes'][kind]:.1f}" for kind in ("ours", "lightly")),
            str(r["rounds"]),
        ]
        for r in [*rows(files[0]), *rows(files[1])]
    ]
    head = ["with its gradient", "lightly's time / ours", "extra memory, MB", "lightly's, MB", "n"]
    return table(head, lines) + measured_on(*files) + teacher()


def teacher() -> str:
    """The teacher's update beside lightly's, and beside an addition of vectors as long."""
    name = "teacher-cpu.jsonl"
    lines = [
        [f"ViT-{r['row']}", spread(r["lightly_over_ours"]), spread(r["share_of_bandwidth"]), str(r["rounds"])]
        for r in rows(name)
    ]
    head = ["the teacher's update", "lightly's time / ours", "share of the memory's bandwidth", "n"]
    return f"\n{table(head, lines)}{measured_on(name)}" if lines else ""


def keep(name: str, run: Path, command: str) -> None:
    """Copy the curve of a run folder into bench/results."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    file = RESULTS / f"learning-{name.lower().replace(' ', '-')}.json"
    starts = 1 + len(json.loads((run / "environment.json").read_text()).get("resumed", ()))
    kept = {"name": name, "command": command, "hardware": hardware(), "starts": starts, "epochs": epochs}
    file.write_text(json.dumps(kept, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", nargs=3, metavar=("NAME", "RUN", "COMMAND"))
    args = parser.parse_args()
    if args.keep:
        keep(args.keep[0], Path(args.keep[1]), args.keep[2])
    draw_few_images()
    for name in PRETRAINED:
        draw_pretraining(name)
    for page, text in pages().items():
        page.write_text(text)


def pages() -> dict[Path, str]:
    """The texts of the two pages."""
    readme, details = ROOT / "README.md", ROOT / "docs" / "results.md"
    short = between_marks(
        readme,
        "Medians of interleaved rounds on a shared machine; in brackets quartiles.\n",
        **{
            "Learning": learning(),
            "Few images": few_images(),
            "Distillation": distillation(),
            "Pretraining": pretraining("cifar-10"),
            "ConViT, forward and backward": convit(),
            "The step": step(),
            "Self-supervised losses": losses(),
            "Loading": loader(),
            "Augmentation": augment(),
            "GPU": f"{gpu()}\n{traffic()}",
        },
    )
    long = between_marks(
        details,
        "## All figures\n",
        **{
            "Learning, epoch by epoch": curves(),
            "Few images, all that was tried": few_images_tried(),
            "Distillation, the commands": distillation_commands(),
            "Pretraining, by data": pretraining(*PRETRAINED, pictures=True),
            "Loading, stage by stage": stages(),
        },
    )
    return {readme: short, details: long}


def between_marks(page: Path, lead: str, **parts: str) -> str:
    """A page with titled parts between its two marks."""
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    text = "\n".join([lead, *(f"### {title}\n\n{part}" for title, part in parts.items())])
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


if __name__ == "__main__":
    main()
