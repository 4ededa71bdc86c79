"""The README's tables of the GPU: every op and the training steps, each form's time and share of the roof."""

from collections.abc import Iterable

from tables import RESULTS, measured_on, rows, table  # bench/tables.py: a script's own folder is on its path

NONE = "Nothing was measured on a GPU yet; `python bench/gpu.py` does it and writes bench/results/gpu-*.jsonl.\n"
# targets on an H200: timm's time / ours, eager and compiled, and ours / that of our plain ViT of the same size
OVER_EAGER, OVER_COMPILED, OF_VIT = 2.5, 1.5, 1.1


def gpu() -> str:
    """A table of ops and one of steps for each file; without a file, the command that makes one."""
    files = sorted(path.name for path in RESULTS.glob("gpu-*.jsonl"))
    return "\n".join(f"{tables(rows(name))}{measured_on(name)}" for name in files) or NONE


def tables(found: list[dict]) -> str:
    """The tables of these rows, one of each op and model, the newest figures of each form; notes and failures below."""
    newest: dict[tuple[str, str], dict] = {}
    for row in found:
        key = row["section"], row["row"]
        newest[key] = together(newest[key], row) if key in newest else row
    parts = []
    for section, title in (("ops", "op, forward and backward"), ("steps", "training step")):
        own = [row for (kind, _), row in newest.items() if kind == section]
        good = [row for row in own if "error" not in row]
        if good:
            parts.append(table([title, *kinds(good), "n"], (cells(row, kinds(good)) for row in good)))
            parts.append(ABOUT[section])
        parts.append("".join(f"- {row['row']}: {words}\n" for row in own for words in remarks(row)))
    return "\n".join(parts)


def together(old: dict, new: dict) -> dict:
    """A newer row with the forms that only the older one has; one that failed as a whole is a note of the other."""
    if "error" in new and "error" not in old:
        return old | {"note": "; ".join(filter(None, (old["note"], new["error"])))}
    if "error" in old:
        return new
    seen = new["milliseconds"].keys() | new["wrong"].keys()
    kept = {name: {k: v for k, v in d.items() if k not in seen} for name, d in old.items() if isinstance(d, dict)}
    return new | {name: kept[name] | new[name] for name in kept if name != "roof"}


ABOUT = {
    "ops": "ms (share of the roof; extra MB). The roof is a large product's or copy's speed in the same run.\n",
    "steps": "ms (share of a large product's speed; images/s; extra GB, without a CUDA graph's own).\n",
}


def kinds(found: list[dict]) -> list[str]:
    """All forms' names, in the order in which they were measured."""
    return list(dict.fromkeys(kind for row in found for kind in [*row["milliseconds"], *row["wrong"]]))


def cells(row: dict, names: Iterable[str]) -> list[str]:
    size = row["shape"] if "shape" in row else f"batch {row['batch']}"
    return [f"{row['row']}, {size}, {row['dtype']}", *(cell(row, kind) for kind in names), str(row["n"])]


def cell(row: dict, kind: str) -> str:
    """One form's figures; what is wrong has none."""
    if kind not in row["milliseconds"]:
        return "see below" if kind in row["wrong"] else "-"
    figures = [f"{100 * row['share_of_roof'][kind]:.0f} %"]
    megabytes = row["extra_megabytes"][kind]
    if "images_per_second" in row:
        figures += [f"{row['images_per_second'][kind]:,.0f}", f"{megabytes / 1e3:.1f}"]
    else:
        figures.append(f"{megabytes:,.0f}")
    return f"{row['milliseconds'][kind]:.3g} ({'; '.join(figures)})"


def remarks(row: dict) -> list[str]:
    """How it stands to the targets, what went wrong, what is missing, and the note."""
    if "error" in row:
        return [row["error"]]
    found = [f"{kind}: {why}" for kind, why in (row["wrong"] | row["skipped"]).items()]
    beside = targets(row) if row["section"] == "steps" else []
    return beside + found + ([row["note"]] if row["note"] else [])


def targets(row: dict) -> list[str]:
    """How the fastest of our forms stands to the others of its row, beside the targets."""
    ours, found = forms_of(row, "ours"), []
    if not ours:
        return []
    name, convit, ms = row["row"], row["row"].startswith("convit"), min(ours.values())
    theirs, plain = forms_of(row, "timm"), forms_of(row, "plain ViT")
    for kind, goal in (("timm", OVER_EAGER), ("timm, compiled", OVER_COMPILED)):
        if kind in theirs:
            found.append(f"{kind} takes {theirs[kind] / ms:.2f} times as long as our fastest" + target(goal, convit))
    if plain:
        found.append(f"our fastest takes {ms / min(plain.values()):.2f} times the fastest plain ViT's" + target(OF_VIT))
    share = max(row["share_of_roof"][kind] for kind in ours)
    return [*found, f"{100 * share:.0f} % of a large product's speed" + target("60 %", name == "vit_base")]


def target(goal: float | str, known: bool = True) -> str:
    return f"; target {goal}" if known else ""


def forms_of(row: dict, whose: str) -> dict[str, float]:
    """Milliseconds of the forms whose names begin so."""
    return {kind: ms for kind, ms in row["milliseconds"].items() if kind.split(",")[0] == whose}
