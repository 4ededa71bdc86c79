"""Recipes that train share their running flags, and each writes to a folder of its own name."""

import importlib.util
import runpy
import sys
from pathlib import Path

import attrs
import pytest

from blocks.train.fields import flags
from blocks.train.options import RunOptions

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.py"))
NO_RUN = {"evaluate", "knn", "lr_sweep", "predict"}  # they write no run's folder


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem not in NO_RUN], ids=lambda p: p.stem)
def test_a_recipe_has_the_running_flags_a_folder_and_presets_of_its_fields(path):
    names = runpy.run_path(str(path), run_name="recipe")
    recipe = names["Recipe"]
    assert issubclass(recipe, RunOptions)
    assert recipe().out == f"runs/{path.stem}"
    shared = [field.name for field in attrs.fields(RunOptions) if field.name != "out"]
    found = flags(recipe)
    assert [flag.name for flag in found[-len(shared) :]] == shared
    assert all(flag.help for flag in found[-len(shared) :])
    assert recipe(**names["DIGITS"]) != recipe()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_flag_says_what_it_is(path, monkeypatch):
    spec = importlib.util.spec_from_file_location("recipe_that_is_read", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # comments are found through it
    spec.loader.exec_module(module)
    assert [flag.name for flag in flags(module.Recipe) if not flag.help] == []


def test_the_others_write_no_run():
    for name in NO_RUN:
        assert "blocks.train.loop" not in (RECIPES[0].parent / f"{name}.py").read_text()


@pytest.mark.parametrize("name", ["finetune", "linear_probe", "evaluate", "knn"])
def test_every_trunk_that_is_pretrained_can_be_used(name):
    pretrained = runpy.run_path(str(RECIPES[0].parent / "pretrain_moco_v3.py"), run_name="recipe")["TRUNKS"]
    used = runpy.run_path(str(RECIPES[0].parent / f"{name}.py"), run_name="recipe")
    assert pretrained.keys() <= used["MODELS"].keys()
    assert used["Recipe"](pos_embed="sincos").pos_embed == "sincos"  # MoCo v3's positions
