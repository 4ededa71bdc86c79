"""The README's promises that a machine can check."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_python_blocks_run_from_top_to_bottom():
    """In one namespace, as a reader would paste them."""
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
