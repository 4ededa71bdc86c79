"""Pictures in files are told their classes, by what the weights say of themselves."""

import csv
import os
import runpy
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

import blocks
from blocks import random
from blocks.data import EvalTransform, PictureLoader, picture_files
from blocks.runs import checkpoint, folder
from blocks.train.cli import cli

MODEL = blocks.vit(img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0, num_classes=3)
SEEN = {"transform": {"img_size": 8, "crop_pct": 0.5, "interpolation": "bilinear"}, "mean": [0.1] * 3, "std": [0.2] * 3}
NAMES = ["ant", "bee", "cat"]


@pytest.fixture
def photos(tmp_path):
    """Five pictures in folders, and a broken one."""
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (5, 12, 9, 3), np.uint8)):
        file = tmp_path / "photos" / f"{i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    (tmp_path / "photos" / "broken.png").write_text("no picture")
    return tmp_path / "photos"


@pytest.fixture
def run(tmp_path):
    """A run's folder that says how it saw images and what its classes are called."""
    params = MODEL.init(random.key(3))
    folder.begin(tmp_path / "run", folder.About("mine"), {}, model=MODEL, params=params)
    folder.note_images(tmp_path / "run", {"train": {"classes": NAMES}, "val": SEEN})
    checkpoint.save(tmp_path / "run", {"params": params}, 1, {})
    return tmp_path / "run"


def predict(*flags):
    recipe = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "predict.py"), run_name="recipe")
    recipe["main"](cli(recipe["Recipe"], list(map(str, flags))))


def expected(photos):
    """{file: shares [3]} by the model itself."""
    transform, (mean, std) = EvalTransform(8, 0.5, "bilinear"), (0.1, 0.2)
    files = sorted(map(str, photos.glob("*/*.png")))
    images = torch.cat([transform([Image.open(file)]) for file in files]).permute(0, 3, 1, 2) / 255
    logits = MODEL(MODEL.init(random.key(3)), (images - mean) / std)
    return dict(zip(files, logits.softmax(1).tolist(), strict=True))


@pytest.mark.parametrize("saved", [False, True])
def test_answers_are_the_model_s_on_images_as_its_run_saw_them(photos, run, tmp_path, capsys, saved):
    weights = run
    if saved:
        weights, own = tmp_path / "model.safetensors", blocks.Run.open(run)
        blocks.save(weights, own.model(), own.params(), metadata=own.metadata)
    predict("--weights", weights, "--images", photos, "--out", tmp_path / "said.csv", "--batch-size", 2)
    rows = list(csv.DictReader((tmp_path / "said.csv").open()))
    wanted = expected(photos)
    assert [row["file"] for row in rows] == list(wanted)
    for row in rows:
        found = {row[f"class_{k}"]: float(row[f"share_{k}"]) for k in (1, 2, 3)}
        assert found == pytest.approx(dict(zip(NAMES, wanted[row["file"]], strict=True)), abs=1e-4)
        assert list(found.values()) == sorted(found.values(), reverse=True)
    out, said = capsys.readouterr()
    assert not out
    assert "5 pictures' classes are in" in said
    assert f"not read: {photos / 'broken.png'}: " in said


def test_names_of_a_file_are_for_weights_that_say_none_and_must_be_all(photos, run, tmp_path, capsys):
    (run / folder.IMAGES).unlink()
    names = tmp_path / "names.txt"
    names.write_text("\ufeffx\ny\nz\n", "utf-8")  # the mark with which Windows begins a file
    flags = ["--weights", run, "--images", photos / "0" / "*.png", "--top", 1]
    predict(*flags, "--img-size", 8, "--classes", names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] in "xyz" for line in lines] == [True] * 3
    names.write_text("x\ny\n")
    with pytest.raises(ValueError, match="2 names of classes, and the model has 3; --classes names all of them"):
        predict(*flags, "--classes", names)


def test_a_file_s_name_may_be_any_bytes(run, tmp_path, capsys):
    file = tmp_path / os.fsdecode(b"a\xff\n.png")
    Image.new("RGB", (9, 9)).save(file)
    predict("--weights", run, "--images", file, "--out", tmp_path / "said.csv")
    with open(tmp_path / "said.csv", newline="", encoding="utf-8", errors="surrogateescape") as said:
        assert [row["file"] for row in csv.DictReader(said)] == [str(file)]
    capsys.readouterr()
    predict("--weights", run, "--images", file)
    assert capsys.readouterr().out.startswith(f"{tmp_path}/a\\udcff\\n.png  ")


def test_pictures_of_which_none_can_be_read_are_an_error(photos, run, tmp_path):
    with pytest.raises(ValueError, match=r"none of 1 pictures at .*broken\.png can be read"):
        predict("--weights", run, "--images", photos / "broken.png", "--out", tmp_path / "said.csv")
    assert not (tmp_path / "said.csv").exists()


def test_weights_that_classify_nothing_are_refused(photos, tmp_path):
    trunk = attrs.evolve(MODEL, head=None)
    blocks.save(tmp_path / "trunk.safetensors", trunk, trunk.init(random.key(0)))
    with pytest.raises(ValueError, match=r"has no classifier .*; recipes/linear_probe\.py and recipes/finetune\.py"):
        predict("--weights", tmp_path / "trunk.safetensors", "--images", photos)


def test_files_are_found_in_folders_by_patterns_and_alone(photos):
    found = [Path(file).name for file in picture_files(photos)]
    assert found == ["0.png", "2.png", "4.png", "1.png", "3.png", "broken.png"]
    assert picture_files(photos / "1" / "1.png") == [str(photos / "1" / "1.png")]
    assert picture_files(f"{photos}/**/3.png") == [str(photos / "1" / "3.png")]
    with pytest.raises(FileNotFoundError, match=r"no pictures at .*nowhere; give a folder, a pattern or a file"):
        picture_files(photos / "nowhere")


def test_a_file_s_name_may_look_like_a_pattern(tmp_path):
    for name in ("photo1.jpg", "photo[1].jpg"):
        (tmp_path / name).touch()
    assert picture_files(tmp_path / "photo[1].jpg") == [str(tmp_path / "photo[1].jpg")]
    assert picture_files(tmp_path / "photo[0-1].jpg") == [str(tmp_path / "photo1.jpg")]


def test_workers_load_the_same_pictures_and_a_file_that_vanished_is_told(photos):
    files = [*picture_files(photos), str(photos / "gone.png")]
    for workers in (0, 1):
        loader = PictureLoader(files, batch_size=4, transform=EvalTransform(8), num_workers=workers)
        batches = list(loader)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == [0, 1, 2, 3, 4]
        assert list(loader.skipped) == [str(photos / "broken.png"), str(photos / "gone.png")]
        assert loader.skipped[str(photos / "gone.png")] == "No such file or directory"


@pytest.mark.parametrize(("out", "said"), [("nowhere/said.csv", "there is no folder"), ("", "is a folder")])
def test_a_place_for_answers_that_cannot_be_is_told_before_the_work(photos, run, tmp_path, monkeypatch, out, said):
    monkeypatch.setattr(PictureLoader, "__iter__", lambda loader: pytest.fail("it has begun"))
    with pytest.raises(ValueError, match=said):
        predict("--weights", run, "--images", photos, "--out", tmp_path / out)
