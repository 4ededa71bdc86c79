"""What the recipe of a taught student gives to its two runs."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

PATH = Path(__file__).parents[2] / "recipes" / "deit_distilled.py"


@pytest.fixture(scope="module")
def recipe():
    """The recipe's module."""
    spec = importlib.util.spec_from_file_location("taught", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_run_keeps_the_settings_that_it_follows_from(recipe, monkeypatch):
    """So that it does not go on with another rate or loss; a student's new setting leaves the teacher as it is."""
    found = {}

    def run(*_, out, settings, **__):
        found[Path(out).name] = settings
        return SimpleNamespace(state=SimpleNamespace(params={}))

    monkeypatch.setattr(recipe, "run", run)
    monkeypatch.setattr(recipe, "Distillation", lambda *_: None)
    given = recipe.Recipe(**recipe.DIGITS, out="somewhere")
    recipe.main(given)
    assert found["student"] == given.settings
    assert set(found["student"]) - set(found["teacher"]) == set(recipe.STUDENTS)
    assert set(recipe.STUDENTS) < set(attrs.fields_dict(recipe.Recipe))
    with pytest.raises(ValueError, match="vgg11 cannot be trained here"):
        recipe.main(attrs.evolve(given, teacher="vgg11"))
