"""The README's promises that a machine can check."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_python_blocks_run_from_top_to_bottom(tmp_path, monkeypatch):
    """In one namespace and an empty folder, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(BLOCKS) >= 3
    namespace = {"__name__": "readme"}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), namespace)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\]\(([\w./-]+)\)|`((?:tests|blocks|recipes|bench)/[\w./]+)`", README)))
)
def test_every_file_it_names_is_there(path):
    assert (ROOT / "".join(path)).exists()


def test_two_commands_install_and_run_everything():
    """.ci/run calls the lines that begin so."""
    assert len(re.findall(r"^pip install -e '", README, re.MULTILINE)) == 2


def vissl_rows():
    """(key of the tutorial, code in the recipe, recipe) of the table that has one."""
    section = README.partition("## Coming from VISSL")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"
    ]
    return [(key, code.strip("`"), name) for key, code, names, _ in cells for name in names.split(", ") if name]


@pytest.mark.parametrize(("key", "code", "recipe"), vissl_rows())
def test_every_line_that_replaces_a_key_of_vissl_is_in_its_recipe(key, code, recipe):
    assert code in (ROOT / "recipes" / f"{recipe}.py").read_text()


def test_the_table_has_all_sections_of_the_tutorial():
    keys = " ".join(key for key, _, _ in vissl_rows())
    assert len(vissl_rows()) > 30
    assert all(word in keys for word in ("MODEL", "HEAD", "OPTIMIZER", "DATA", "LOSS", "DISTRIBUTED"))
