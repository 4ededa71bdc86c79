"""Pretraining's curves: how loss, features and neighbours went, epoch by epoch."""

from pathlib import Path

from tables import PICTURES, rows  # bench/tables.py: a script's own folder is on its path

TRUNKS = {"vit_micro": "ViT", "convit_micro": "ConViT"}
PANELS = {
    "train_loss": "loss / loss of epoch 1",
    "train_feature_std": "features' standard deviation",
    "knn20": "k-NN top-1, %",
}


def path_of(name: str) -> Path:
    return PICTURES / f"pretraining-{name}.png"


def draw_pretraining(name: str) -> None:
    """docs/pictures/pretraining-NAME.png of bench/results/pretraining-NAME.jsonl."""
    found = [r for r in rows(f"pretraining-{name}.jsonl") if "curve" in r]
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colour = colormaps["tab20"]  # ten are not enough
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    grid = figure.subplots(len(TRUNKS), len(PANELS), sharex=True, sharey="col")
    methods = list(dict.fromkeys(r["method"] for r in found))
    for axes, (trunk, title) in zip(grid, TRUNKS.items(), strict=True):
        for panel, (key, label) in zip(axes, PANELS.items(), strict=True):
            for row in (r for r in found if r["trunk"] == trunk):
                _line(panel, row, key, colour(methods.index(row["method"])))
            panel.set_title(f"{title}: {label}", fontsize=9)
            panel.grid(alpha=0.3)
            panel.xaxis.get_major_locator().set_params(integer=True)
    for panel in grid[-1]:
        panel.set_xlabel("epoch")
    handles = {line.get_label(): line for panel in grid.flat for line in panel.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path_of(name), dpi=110)


def _line(axes, row: dict, key: str, colour: str) -> None:
    points = [(r["epoch"], r[key]) for r in row["curve"] if r.get(key) is not None]
    if points:
        scale = 1 / points[0][1] if key == "train_loss" else 100 if key == "knn20" else 1
        axes.plot(
            *zip(*((e, scale * v) for e, v in points), strict=True), color=colour, marker=".", label=row["method"]
        )
