"""The page's first and last lines."""

from datetime import UTC, datetime

from blocks import tree
from blocks.report.material import Material
from blocks.report.numbers import counted, metric, spoken
from blocks.report.outcome import best, last, score_name
from blocks.report.parts import Absent


def title(material: Material) -> str:
    """The recipe and the folder, once where they are one word."""
    recipe, name = material.run.recipe, material.run.folder.name
    name = name if recipe in (None, "", name) else f"{recipe}: {name}"
    return name if not material.others else f"{name} and {counted(len(material.others), 'other run')}"


def lead(material: Material) -> str:
    """What was trained, for how long, and how well."""
    sentences = filter(None, (_model(material), _score(material)))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def foot(material: Material) -> str:
    """When the page was made, and of which weights."""
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    steps = material.run.steps
    weights = f'the run\'s "{material.which}" after step {steps[-1]:,}' if steps else "no weights, for there are none"
    return f"Made on {made} from {weights}. Nothing in this page is fetched from elsewhere."


def kind(material: Material) -> str:
    """The trunk's name and its measures: "ConViT, depth 4, width 64"."""
    trunk = getattr(material.model, "trunk", material.model)
    measures = [f"depth {len(trunk.blocks)}"] if hasattr(trunk, "blocks") else []
    measures += [f"width {trunk.embed_dim}"] if hasattr(trunk, "embed_dim") else []
    return ", ".join([type(trunk).__name__, *measures])


def _model(material: Material) -> str:
    try:
        described = f"{kind(material)}, {counted(tree.count(material.params), 'parameter')}"
    except Absent:
        described = ""
    data = material.run.settings.get("data")
    return described + (f"; data: {data}" if described and data else f"Data: {data}" if data else "")


def _score(material: Material) -> str:
    epochs = material.run.epochs
    name = score_name(epochs)
    now, top = (last(epochs, name), best(epochs, name)) if name else (None, None)
    if name is None or now is None or top is None:
        return f"{counted(epochs[-1]['epoch'] if epochs else 0, 'epoch')} finished"
    told = f"{spoken(name)} {metric(name, now[name])} after epoch {now['epoch']}"
    if top[name] == now[name]:
        every = all(name in record for record in epochs)
        return f"{told}, the best of all {'' if every else 'evaluated '}epochs"
    return f"{told}, at best {metric(name, top[name])} after epoch {top['epoch']}"
