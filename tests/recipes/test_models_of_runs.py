"""What evaluates, probes or fine-tunes a run needs no flag to say which model it was."""

import contextlib
import math
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blocks
from blocks import random, tree
from blocks.data import EvalLoader, EvalTransform, open_shards, write_dataset
from blocks.runs import best, checkpoint, folder
from blocks.runs.data_of import data_of_run
from blocks.secrets import without_secrets
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
    assert "images 12 of shards\n" in capsys.readouterr().out


def test_validation_shards_that_a_run_was_given_apart_are_what_evaluate_names(place, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)
    settings = {"data": "shards/train-*.tar", "val": "shards/val-*.tar", "workers": 0, "crop_pct": 1.0}
    params = MODEL.init(random.key(0))
    folder.begin(tmp_path / "run", folder.About("mine", settings=settings), {}, model=MODEL, params=params)
    checkpoint.save(tmp_path / "run", {"params": params}, 1, {})
    use("evaluate", "--weights", str(tmp_path / "run"))
    assert "images 12 of shards/val-*.tar\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", FLAGS)
def test_a_model_that_contradicts_the_run_is_refused(name, place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(ValueError, match=r"--model vit_small contradicts run/model\.json: patch_embed"):
        use(name, "--weights", "run", *FLAGS[name], "--model", "vit_small")


@pytest.mark.parametrize("name", ["knn", "linear_probe", "finetune"])
def test_weights_alone_stand_for_their_run_s_data_too(name, place, monkeypatch):
    monkeypatch.chdir(place)
    recipe = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe")["Recipe"]
    assert cli(recipe, ["--weights", "run"], known=data_of_run).data == "shards"
    assert cli(recipe, ["--weights", "run", "--data", "digits"], known=data_of_run).data == "digits"
    assert cli(recipe, ["--weights", "nowhere"], known=data_of_run).data == "digits"


@pytest.mark.parametrize("name", ["knn", "linear_probe", "finetune"])
def test_other_validation_images_go_with_the_run_s_training_images(name, place, monkeypatch):
    monkeypatch.chdir(place)
    recipe = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe")["Recipe"]
    found = cli(recipe, ["--weights", "run", "--val", "others"], known=data_of_run)
    assert (found.data, found.val) == ("shards", "others")


def test_data_whose_password_the_run_did_not_keep_are_to_be_given_again(tmp_path):
    settings = {"data": "https://me:word@host/a.tar", "val": "https://host/b.tar?token=word"}
    folder.begin(tmp_path, folder.About(settings=without_secrets(settings)), {})
    (tmp_path / "best.pt").touch()
    weights = {"weights": str(tmp_path / "best.pt")}
    with pytest.raises(ValueError, match=f"{tmp_path} keeps no password .* https://me:.* and .*token=.*; give --data"):
        data_of_run(weights)
    with pytest.raises(ValueError, match=r"a\.tar cannot be opened without"):
        data_of_run(weights | {"val": "other"})
    assert data_of_run(weights | {"data": "other"}) == {}


def test_a_run_s_data_that_lie_elsewhere_are_told_with_the_folder_that_was_searched(place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"--data shards: no such folder or shards in {tmp_path};"):
        use("evaluate", "--weights", str(place / "run"))


@pytest.mark.parametrize("name", ["evaluate", "knn", "linear_probe", "finetune"])
def test_a_run_whose_settings_name_no_data_is_not_taken_to_the_digits(name, place, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)
    params = MODEL.init(random.key(0))
    folder.begin(tmp_path, folder.About("mine", settings={"photos": "shards"}), {}, model=MODEL, params=params)
    checkpoint.save(tmp_path, {"params": params}, 1, {})
    names = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe")
    with pytest.raises((ValueError, SystemExit)) as error:
        names["main"](cli(names["Recipe"], ["--weights", str(tmp_path)], known=names.get("data_of_run")))
    assert "name no data; give --data" in f"{error.value} {capsys.readouterr().err}"


@pytest.mark.parametrize("name", FLAGS)
def test_images_have_the_colours_that_the_run_gave_them(name, place, monkeypatch, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    colours = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.1]}
    folder.note_images(tmp_path / "run", {"train": {}, "val": colours})
    monkeypatch.chdir(place)
    out = [] if name in ("evaluate", "knn") else ["--out", str(tmp_path / "out")]
    size = [] if "--img-size" in FLAGS[name] else ["--img-size", "8"]
    found = loader_of(monkeypatch, name, "--weights", str(tmp_path / "run"), *FLAGS[name], *size, *out)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))


@pytest.mark.parametrize("name", ["evaluate", "knn", "linear_probe"])
def test_images_are_cut_as_the_run_s_evaluation_cut_them(name, place, monkeypatch, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    cut = {"transform": {"img_size": 8, "crop_pct": 0.8, "interpolation": "bilinear"}}
    folder.note_images(tmp_path / "run", {"train": {}, "val": cut})
    monkeypatch.chdir(place)
    out = ["--out", str(tmp_path / "out")] if name == "linear_probe" else []
    flags = ["--weights", str(tmp_path / "run"), *FLAGS[name], *out]
    assert loader_of(monkeypatch, name, *flags).transform == EvalTransform(8, 0.8, "bilinear")
    assert loader_of(monkeypatch, name, *flags, "--crop-pct", "1").transform == EvalTransform(8, 1.0, "bilinear")


@pytest.fixture
def renamed(place, tmp_path):
    """A run that knows its classes by name, shards of the same pictures with the names in another order, and others."""
    names = ["class2", "class0", "class1"]
    for source, target in zip(("class0", "class1", "class2"), ("b", "c", "a"), strict=True):
        for split in ("train", "val"):
            shutil.copytree(place / "pictures" / split / source, tmp_path / "other" / split / target)
    write_dataset(tmp_path / "other", tmp_path / "others", workers=0, progress=False)
    shutil.copytree(place / "run", tmp_path / "run")
    folder.note_images(tmp_path / "run", {"train": {"classes": names}, "val": {}})
    return tmp_path / "run", tmp_path / "others"


def loader_of(monkeypatch, name, *flags):
    """The loader that a recipe makes of its validation images."""
    seen = []
    monkeypatch.setattr(EvalLoader, "__attrs_post_init__", lambda loader: seen.append(loader), raising=False)
    with contextlib.suppress(Exception):
        use(name, *flags)
    return seen[-1]


def labels_of(monkeypatch, name, *flags):
    """The labels of the validation images that a recipe gives its loader."""
    return loader_of(monkeypatch, name, *flags).index


def test_labels_are_numbered_as_the_run_s_head_knows_its_classes(renamed, place, monkeypatch, tmp_path):
    run, _ = renamed
    there = open_shards(place / "shards", "val")
    monkeypatch.chdir(place)
    found = labels_of(monkeypatch, "evaluate", "--weights", str(run), "--data", "shards")
    assert found.label.tolist() == ((there.label + 1) % 3).tolist()
    out = ["--out", str(tmp_path / "out"), *FLAGS["finetune"]]
    found = labels_of(monkeypatch, "finetune", "--weights", str(run), *out)
    assert found.label.tolist() == ((there.label + 1) % 3).tolist()


def test_classes_that_the_run_does_not_know_are_refused_or_get_another_head(renamed, monkeypatch, tmp_path, capsys):
    run, others = renamed
    with pytest.raises(ValueError, match=r"of the classes a, b, c, none of the 3 that are wanted"):
        use("evaluate", "--weights", str(run), "--data", str(others))
    flags = [*FLAGS["finetune"][2:], "--data", str(others), "--out", str(tmp_path / "out")]
    use("finetune", "--weights", str(run), *flags)
    assert "left out: head.weight, head.bias" in capsys.readouterr().out
    with pytest.raises(ValueError, match="none of the 3 that are wanted"):
        use("finetune", "--weights", str(run), *flags, "--head", "keep")


def test_a_linear_probe_s_run_is_evaluated_by_its_best_head(place, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)
    use("linear_probe", "--weights", "run", *FLAGS["linear_probe"], "--out", str(tmp_path / "probe"))
    use("evaluate", "--weights", str(tmp_path / "probe"))
    assert f"leaves from {tmp_path / 'probe' / 'classifier.pth'}" in capsys.readouterr().out


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


@pytest.mark.parametrize(("flag", "said"), [("--k", r"k \(0,\) are not"), ("--temperature", "not above 0")])
def test_neighbours_that_cannot_be_are_refused_before_any_work(flag, said):
    with pytest.raises(ValueError, match=said):
        use("knn", flag, "0", "--data", "no_shards_either")
