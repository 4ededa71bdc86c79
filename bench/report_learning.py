"""The tables of single runs with labels: where each ended, and how it went."""

import json

from tables import RESULTS, table  # bench/tables.py: a script's own folder is on its path


def runs() -> list[dict]:
    """The runs that `bench/report.py --keep` kept, without those of distillation."""
    paths = set(RESULTS.glob("learning-*.json")) - set(RESULTS.glob("learning-distillation-*.json"))
    return [json.loads(path.read_text()) for path in sorted(paths)]


def learning() -> str:
    """One line a run: what it reached, and how long it took."""
    lines = []
    for run in runs():
        last = run["epochs"][-1]
        reached = f"**{100 * last['val_top1']:.2f}**", f"{last['val_images']:,}"
        lines.append([run["name"], *reached, str(last["epoch"]), minutes(run), run["hardware"]])
    return table(["ConViT-micro on", "validation top-1, %", "validation images", "epochs", "minutes", "machine"], lines)


def minutes(run: dict) -> str:
    parted = f", in {run['starts']} parts" if run.get("starts", 1) > 1 else ""
    return f"{sum(e['seconds'] + e['evaluation_seconds'] for e in run['epochs']) / 60:.1f}{parted}"


def curves() -> str:
    """One paragraph a run: how it was started, and its curve."""
    parts = []
    for run in runs():
        epochs = run["epochs"]
        shown = epochs if len(epochs) <= 10 else [*epochs[:: len(epochs) // 8], epochs[-1]]
        lines = [
            ["training loss", *(f"{e['train_loss']:.3f}" for e in shown)],
            ["validation top-1, %", *(f"{100 * e['val_top1']:.1f}" for e in shown)],
        ]
        curve = table(["epoch", *(str(e["epoch"]) for e in shown)], lines)
        parts.append(f"**{run['name']}**, minutes: {minutes(run)}\n\n```bash\n{run['command']}\n```\n\n{curve}")
    return "\n".join(parts)
