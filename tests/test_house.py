"""The layers of the house: imports go down only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "blocks"
GROUND = {"tree", "random", "threefry", "block", "collective", "durable", "locks", "secrets", "checks", "notes"}
BELOW = {  # what a part may import besides the ground floor and itself
    "ops": set(),
    "layers": {"ops"},
    "trunks": {"layers"},
    "interop": {"layers", "trunks"},
    "objectives": {"ops", "optim"},  # any trunk: names none
    "optim": {"ops"},
    "data": {"ops"},  # kernels; knows no model
    "probe": {"optim"},  # any trunk's features
    "pictures": {"ops", "layers", "trunks", "probe"},
    "runs": {"interop"},
    "report": {"runs", "pictures", "interop", "data", "probe", "trunks", "layers"},
    "train": {"optim", "runs", "report", "pictures", "layers"},  # layers to compile; any objective: names none
}
ORDER = ["threefry", "random", "tree", "block", "collective", "durable", "locks", "secrets", "checks", "notes"]


def imported(path):
    """Parts of `blocks` that a file imports: "layers", "tree" ..."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "blocks":
            inside = node.module.split(".")[1:2]
            yield from inside or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("blocks."))


def files(part):
    return sorted((PACKAGE / part).rglob("*.py"))


@pytest.mark.parametrize("part", BELOW)
def test_a_part_imports_only_what_lies_below(part):
    for path in files(part):
        wrong = set(imported(path)) - GROUND - BELOW[part] - {part}
        assert not wrong, f"{path.name} imports {sorted(wrong)}"


@pytest.mark.parametrize("name", ORDER)
def test_the_ground_floor_imports_only_what_stands_before_it(name):
    assert set(imported(PACKAGE / f"{name}.py")) <= set(ORDER[: ORDER.index(name)])


def test_every_part_has_its_place():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders == set(BELOW)
    assert modules == GROUND


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "recipes").glob("*.py")), ids=lambda p: p.name)
def test_a_recipe_is_at_most_120_lines(path):
    assert len(path.read_text().splitlines()) <= 120
