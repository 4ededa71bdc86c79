"""The README's table of what a training step moves on a GPU, counted without one."""

from tables import rows, table  # bench/tables.py: a script's own folder is on its path

NAME = "traffic.jsonl"


def traffic() -> str:
    """Each model's forms beside timm's: bytes, the least time, and the best that can come of it."""
    found = rows(NAME)
    if not found:
        return ""
    of = {(r["row"], r["form"]): r for r in found}
    head = ["a step, one by one", "operations", "GB", "at least, ms", "of the peak, at most", "timm's ms / these"]
    speeds, first = found[0]["speeds"], found[0]
    about = (
        f"What a step moves, counted on tensors without values (`python bench/traffic.py`, {first['versions']}): batch "
        f"{first['batch']}, 224 px, bfloat16, nothing compiled. Each operation reads its inputs and writes its results "
        f"once at {speeds['bytes'] / 1e12:g} TB/s, or multiplies at {speeds['flops'] / 1e12:g} TFLOP/s, as measured on "
        "an H200. Computed, not measured: no run of these operations can be faster, all will be slower."
    )
    return f"{about}\n\n{table(head, (line(r, of[r['row'], 'timm']) for r in found))}"


def line(row: dict, timm: dict) -> list[str]:
    ms = least(row)
    share = 1e15 * row["teraflop"] / row["speeds"]["flops"] / ms
    ratio = f"{least(timm) / ms:.2f}"
    size = f"{row['operations']:,}", f"{row['gigabytes']:.1f}"
    return [f"{row['row']}, {row['form']}", *size, f"{ms:.1f}", f"{100 * share:.0f} %", ratio]


def least(row: dict) -> float:
    return sum(row["milliseconds"].values())
