"""What evaluates, probes or fine-tunes a run needs no flag to say which model it was."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blocks
from blocks import random, tree
from blocks.data import write_dataset
from blocks.runs import best, checkpoint, folder
from blocks.train.cli import cli

RECIPES = Path(__file__).parents[2] / "recipes"
MODEL = blocks.vit(img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0, num_classes=3)
SHORT = ["--batch-size", "4", "--epochs", "1", "--precision", "float32", "--workers", "0", "--no-report"]
FLAGS = {
    "evaluate": ["--data", "shards"],
    "knn": ["--data", "shards", "--workers", "0", "--k", "1"],
    "linear_probe": ["--data", "shards", *SHORT],
    "finetune": ["--data", "shards", *SHORT, "--img-size", "16", "--warmup-epochs", "0", "--repeats", "1"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `shards` of three classes and `run`, of a model that no recipe's list has."""
    place = tmp_path_factory.mktemp("place")
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    for split in ("train", "val"):
        for i, picture in enumerate(pictures):
            file = place / "pictures" / split / f"class{i % 3}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
    write_dataset(place / "pictures", place / "shards", workers=0, progress=False)
    params = MODEL.init(random.key(0))
    settings = {"data": "shards", "val": "", "workers": 0, "crop_pct": 1.0}
    folder.begin(place / "run", folder.About("mine", settings=settings), {}, model=MODEL, params=params)
    checkpoint.save(place / "run", {"params": params}, 1, {})
    checkpoint.write(place / "run" / best.NAME, {"params": tree.map(torch.zeros_like, params)}, {})
    return place


def use(name, *flags):
    """Run a recipe with these flags, in this process."""
    names = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe")
    names["main"](cli(names["Recipe"], list(flags)))


@pytest.mark.parametrize("name", FLAGS)
def test_a_run_s_model_is_read_from_its_folder(name, place, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)
    out = [] if name in ("evaluate", "knn") else ["--out", str(tmp_path)]
    use(name, "--weights", "run", *FLAGS[name], *out)
    assert "leaves from run" in capsys.readouterr().out


@pytest.mark.parametrize("name", FLAGS)
def test_the_best_epoch_s_checkpoint_is_taken_by_its_file_and_needs_no_flag_either(
    name, place, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(place)
    out = [] if name in ("evaluate", "knn") else ["--out", str(tmp_path)]
    use(name, "--weights", "run/best.pt", *FLAGS[name], *out)
    assert "leaves from run/best.pt" in capsys.readouterr().out


def test_the_best_epoch_s_checkpoint_is_evaluated_as_the_run_was(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    use("evaluate", "--weights", "run/best.pt")
    assert f"loss {math.log(3):.4f}  images 12" in capsys.readouterr().out  # its params are all 0


def test_a_run_is_evaluated_on_its_own_validation_images_without_a_flag(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    use("evaluate", "--weights", "run")
    assert "images 12" in capsys.readouterr().out


@pytest.mark.parametrize("name", FLAGS)
def test_a_model_that_contradicts_the_run_is_refused(name, place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(ValueError, match=r"--model vit_small contradicts run/model\.json: patch_embed"):
        use(name, "--weights", "run", *FLAGS[name], "--model", "vit_small")


def test_a_folder_s_other_split_can_be_evaluated(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    use("evaluate", "--weights", "run", "--data", "shards", "--split", "train")
    assert "images 12" in capsys.readouterr().out


def test_a_teacher_of_no_checkpoint_is_not_taken_for_random_weights():
    with pytest.raises(ValueError, match="--which teacher is of a checkpoint; name one by --weights"):
        use("knn", "--which", "teacher")


def test_features_for_a_folder_that_is_not_there_are_refused_before_any_work():
    with pytest.raises(ValueError, match=r"--features no/dir/x\.npz: there is no folder no/dir; make it first"):
        use("knn", "--features", "no/dir/x.npz", "--data", "no_shards_either")
