"""What .ci/run and a reader from VISSL count on; `test_docs` runs the code of README and docs."""

import re

import pytest

from tests.pages import ROOT

README = (ROOT / "README.md").read_text()
VISSL = (ROOT / "docs" / "vissl.md").read_text()


def test_two_commands_install_and_run_everything():
    """.ci/run calls the lines that begin so."""
    assert len(re.findall(r"^pip install -e '", README, re.MULTILINE)) == 2


def vissl_rows():
    """(key of the tutorial, code in the recipe, recipe) of the table that has one."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in VISSL.splitlines() if line[:3] == "| `"]
    return [(key, code.strip("`"), name) for key, code, names, _ in cells for name in names.split(", ") if name]


@pytest.mark.parametrize(("key", "code", "recipe"), vissl_rows())
def test_every_line_that_replaces_a_key_of_vissl_is_in_its_recipe(key, code, recipe):
    assert code in (ROOT / "recipes" / f"{recipe}.py").read_text()


def test_the_table_has_all_sections_of_the_tutorial():
    keys = " ".join(key for key, _, _ in vissl_rows())
    assert len(vissl_rows()) > 30
    assert all(word in keys for word in ("MODEL", "HEAD", "OPTIMIZER", "DATA", "LOSS", "DISTRIBUTED"))
