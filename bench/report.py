"""Write the README's results from the files in bench/results, so that no figure is typed by hand.

python bench/report.py                                # rewrite the part between the two marks
python bench/report.py --keep NAME RUN "COMMAND"      # copy a run's learning curve to bench/results first
"""

import argparse
import json
from pathlib import Path

from measure import hardware  # bench/measure.py: a script's own folder is on its path
from report_data import augment, loader
from report_few import distillation, few_images
from report_gpu import gpu
from report_pretraining import pretraining
from report_traffic import traffic
from tables import RESULTS, ROOT, measured_on, rows, spread, table

BEGIN, END = "<!-- results: written by bench/report.py -->\n", "<!-- end of results -->\n"


def learning() -> str:
    """One paragraph a run: how it was started, how long it took, and its curve."""
    parts = []
    for path in sorted(set(RESULTS.glob("learning-*.json")) - set(RESULTS.glob("learning-distillation-*.json"))):
        run = json.loads(path.read_text())
        epochs = run["epochs"]
        seconds = sum(e["seconds"] + e["evaluation_seconds"] for e in epochs)
        shown = epochs if len(epochs) <= 10 else [*epochs[:: len(epochs) // 8], epochs[-1]]
        last, top1 = epochs[-1], 100 * epochs[-1]["val_top1"]
        parted = f", in {run['starts']} parts" if run.get("starts", 1) > 1 else ""
        parts.append(
            f"**{run['name']}**: validation top-1 **{top1:.2f} %** on {last['val_images']:,} images after "
            f"{len(epochs)} epochs, {seconds / 60:.1f} min{parted} ({run['hardware']}).\n\n"
            f"```\n{run['command']}\n```\n\n"
            + table(
                ["epoch", *(str(e["epoch"]) for e in shown)],
                [
                    ["training loss", *(f"{e['train_loss']:.3f}" for e in shown)],
                    ["validation top-1, %", *(f"{100 * e['val_top1']:.1f}" for e in shown)],
                ],
            )
        )
    return "\n".join(parts)


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
    return table(head, lines) + measured_on("convit-cpu.jsonl")


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
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    text = (
        "Medians of interleaved rounds on a shared machine; in brackets the quartiles of the rounds' ratios.\n\n"
        f"### Learning\n\n{learning()}\n### ConViT, forward and backward\n\n{convit()}\n### The step\n\n{step()}"
        f"\n### Loading\n\n{loader()}\n### Augmentation\n\n{augment()}{few_images()}{distillation()}"
        f"\n### Self-supervised losses\n\n{losses()}\n### GPU\n\n{gpu()}\n{traffic()}"
        f"\n### Pretraining\n\n{pretraining()}"
    )
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
