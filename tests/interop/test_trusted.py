"""A model with a block of one's own: described by the program that has it, built where its file is trusted."""

import json
import subprocess
import sys

import pytest

from blocks.interop.construction import build
from blocks.interop.trusted import trusting

PROGRAM = """
import json
import attrs
import blocks
from blocks.interop.construction import describe

@attrs.frozen
class Halved(blocks.Block):
    def __call__(self, params, x, *, grid=None, keep=None, key=None):
        return x / 2

def model():
    model = blocks.vit(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=3)
    layers = tuple(attrs.evolve(layer, attn=Halved()) for layer in model.trunk.blocks)
    return attrs.evolve(model, trunk=attrs.evolve(model.trunk, blocks=layers))

if __name__ == "__main__":
    print(json.dumps(describe(model())))
"""


@pytest.fixture
def program(tmp_path):
    """A file whose program prints its model's description."""
    path = tmp_path / f"own_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(PROGRAM)
    yield path
    sys.modules.pop(path.stem, None)


def test_a_program_s_own_block_is_built_by_whoever_trusts_its_file(program):
    told = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True).stdout
    description = json.loads(told)
    assert description["trunk"]["blocks"][0]["attn"] == {"block": f"{program.stem}.Halved"}
    with pytest.raises(ValueError, match=rf"{program.stem}\.Halved' is not of .*--trusted {program.stem}, or .*\.py"):
        build(description)
    trusted = trusting([str(program)])
    found = build(description, trusted)
    assert found == sys.modules[program.stem].model()
    assert trusting([str(program)]) == trusted  # a second time it is there already


def test_a_trusted_file_may_import_its_neighbours(program, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    neighbour = program.with_name(f"{program.stem}_parts.py")
    neighbour.write_text("WIDTH = 8")
    program.write_text(f"from {neighbour.stem} import WIDTH")
    assert trusting([str(program)])[-1] == program.stem
    sys.modules.pop(neighbour.stem)


def test_a_file_that_is_not_there_and_one_named_as_another_module_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--trusted none\.py: there is no such file"):
        trusting(["none.py"])
    (tmp_path / "json.py").write_text("")
    with pytest.raises(ValueError, match=r"another module is called json; rename the file"):
        trusting([str(tmp_path / "json.py")])


def test_packages_are_named_as_they_are():
    assert trusting(["mine.layers"]) == ("blocks", "mine.layers")
