"""Facts as text: one subject a line, with its name in a column of its own."""

from collections.abc import Callable, Iterator

from blocks.data.inspect.census import DARK
from blocks.data.inspect.facts import FIRST, Facts
from blocks.data.printable import printable

FEW = 20  # classes: all are listed
ENDS = 5  # else as many of the largest and of the smallest
GROUPS = 5  # of duplicates that are named
COLUMN = 12  # letters
TOO_DARK = "scale what has more than 8 bits, and write the shards again"
Lines = Iterator[tuple[str, str]]


def report(facts: Facts) -> str:
    """The lines for a person. What is damaged comes last, where it is seen, and all of it."""
    parts = (_shards, _classes, _pictures, _duplicates, _wrong_labels, _incomplete, _checksums, _damaged)
    return "\n".join(f"{name:{COLUMN}}{text}" for part in parts for name, text in part(facts))


def _shards(facts: Facts) -> Lines:
    shards = facts["shards"]
    names = shards[0]["name"] + (f" ... {shards[-1]['name']}" if len(shards) > 1 else "")
    yield "shards", f"{len(shards):,}, {_bytes(sum(shard['bytes'] for shard in shards))}: {printable(names)}"
    counts = [shard["samples"] for shard in shards]
    each = f"{min(counts):,} to {max(counts):,} a shard" if min(counts) < max(counts) else f"{counts[0]:,} a shard"
    yield "samples", f"{facts['samples']:,}, {each}"


def _classes(facts: Facts) -> Lines:
    classes = facts["classes"]
    if not classes["labelled"]:
        yield "classes", "none: pictures without labels"
        return
    counts, empty = classes["counts"], classes["empty"]
    named = "" if classes["named"] else ", without names"
    imbalance = f"; largest / smallest {classes['largest_by_smallest']:.2f}" if counts else ""
    yield "classes", f"{classes['classes']:,}{named}{imbalance}"
    width = max((len(printable(row["name"])) for row in counts), default=0)
    for row in _listed(counts):
        yield "", f"{printable(row['name']):{width}} {row['samples']:>9,}" if row else "..."
    if empty:
        yield "", f"{_some(classes['first_empty'], empty)}: empty"


def _listed(counts: list[Facts]) -> list[Facts | None]:
    """All classes if they are few, else the largest and the smallest, with None between."""
    if len(counts) <= FEW:
        return list(counts)
    by_size = sorted(counts, key=lambda row: -row["samples"])
    return [*by_size[:ENDS], None, *by_size[-ENDS:]]


def _pictures(facts: Facts) -> Lines:
    pictures = facts["pictures"]
    if pictures["readable"]:
        yield "formats", _counted(pictures["formats"])
        yield "modes", _counted(pictures["modes"])
        yield "width", _spread(pictures["width"], _pixels)
        yield "height", _spread(pictures["height"], _pixels)
        yield "sizes", _sizes(pictures)
        yield "shapes", _shapes(pictures)
        if pictures["blank"] == pictures["readable"]:
            yield "blank", f"all {pictures['blank']:,}: below {DARK} of 255, or of one colour; {TOO_DARK}"
    yield "file sizes", _spread(pictures["bytes"], _bytes)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{printable(name)} {count:,}" for name, count in counts.items())


def _spread(values: Facts, shown: Callable[[float], str]) -> str:
    return f"{shown(values['min'])} to {shown(values['max'])}, median {shown(values['median'])}"


def _sizes(pictures: Facts) -> str:
    common, different = pictures["common_sizes"], pictures["different_sizes"]
    if different == 1:
        return f"all {common[0]['width']} x {common[0]['height']}"
    listed = (f"{row['width']} x {row['height']} ({row['pictures'] / pictures['readable']:.1%})" for row in common)
    return f"{different:,} different; commonest {', '.join(listed)}"


def _shapes(pictures: Facts) -> str:
    square = 1 - pictures["landscape"] - pictures["portrait"]
    return f"landscape {pictures['landscape']:.1%}, portrait {pictures['portrait']:.1%}, square {square:.1%}"


def _duplicates(facts: Facts) -> Lines:
    labelled = facts["classes"]["labelled"]
    kinds = (("within_classes", "within a class: " if labelled else ""), ("across_classes", "across classes: "))
    if not any(facts["duplicates"][kind]["groups"] for kind, _ in kinds):
        yield "duplicates", "none"
    for kind, words in kinds:
        found = facts["duplicates"][kind]
        if found["groups"]:
            yield "duplicates", f"{words}{found['groups']:,} ({found['samples']:,} samples with the same bytes)"
            for group in found["first"][:GROUPS]:
                yield (
                    "",
                    " = ".join(
                        _place(sample) + (f" ({_class(sample)})" if labelled else "") for sample in group[:ENDS]
                    ),
                )


def _class(sample: Facts) -> str:
    return "no label" if sample["label"] is None else f"class {sample['label']}"


def _wrong_labels(facts: Facts) -> Lines:
    wrong, classes = facts["wrong_labels"], facts["classes"]["classes"]
    if wrong["samples"]:
        yield "labels", f"{wrong['samples']:,} of {facts['samples']:,} not one of {classes:,} classes"
        for sample in wrong["first"]:
            yield "", f"{_place(sample)}: label {sample['label']}"
        if wrong["samples"] > len(wrong["first"]):
            yield "", f"and {wrong['samples'] - FIRST:,} more"


def _incomplete(facts: Facts) -> Lines:
    missing = facts["incomplete"]
    if missing:
        yield "incomplete", f"{len(missing):,} of {facts['samples']:,}, which training and evaluation leave out"
    for sample in missing:
        yield "", f"{_place(sample)}: {printable(sample['reason'])}"


def _checksums(facts: Facts) -> Lines:
    verified, wrong = facts["checksums"]["verified"], facts["checksums"]["wrong"]
    unsaid = len(facts["shards"]) - verified - len(wrong)
    if verified or wrong:
        more = f", {unsaid:,} without one" if unsaid else ""
        yield "checksums", f"{verified:,} right, {len(wrong):,} wrong{more}"
    for name in wrong:
        yield "", f"{printable(name)} is not the file of index.json; fetch or write it again"


def _damaged(facts: Facts) -> Lines:
    damaged = facts["damaged"]
    looked = "by its header" if facts["quick"] else "decoded"
    yield "damaged", f"{len(damaged) or 'none'} of {facts['samples']:,}, each {looked}"
    for sample in damaged:
        yield "", f"{_place(sample)}: {printable(sample['reason'])}"


def _place(sample: Facts) -> str:
    return printable(f"{sample['shard']}, sample {sample['key']}")


def _some(names: list[str], count: int) -> str:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return ", ".join(map(printable, names)) + more


def _pixels(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"
