"""Every pretraining recipe learns from pictures alone; a few labelled ones are enough to be asked by k-NN."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocks.data import write_dataset
from blocks.probe.feature_file import load_features
from blocks.probe.features import UNKNOWN
from blocks.report.write import write_report
from blocks.train.cli import cli

RECIPES = Path(__file__).parents[2] / "recipes"
PRETRAINING = sorted(path.stem for path in RECIPES.glob("pretrain_*.py"))
TINY = ["--trunk", "vit_micro", "--img-size", "8", "--patch-size", "4", "--epochs", "1", "--batch-size", "4"]
TINY += ["--precision", "float32", "--workers", "0", "--warmup-epochs", "0", "--augment", "workers", "--no-report"]
SMALL = {"queue": 8, "hidden": 8, "dim": 8, "prototypes": 8, "bottleneck": 8, "local_size": 4, "logits": 8}
SMALL |= {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos`, shards of 12 pictures without labels, and `labelled`, of 8 in two classes."""
    place = tmp_path_factory.mktemp("place")
    pictures = np.random.default_rng(0).integers(0, 256, (20, 10, 10, 3), np.uint8)
    (place / "pictures" / "deep").mkdir(parents=True)
    for i, picture in enumerate(pictures[:12]):
        Image.fromarray(picture).save(place / "pictures" / ("deep" if i % 2 else "") / f"{i}.png")
    write_dataset(place / "pictures", place / "photos", workers=0, progress=False, labelled=False)
    labelled = [(str(i), picture, i % 2) for i, picture in enumerate(pictures[12:])]
    write_dataset({"val": labelled}, place / "labelled", workers=0, progress=False)
    return place


def use(name, *flags):
    """Run a recipe with these flags, in this process."""
    names = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe")
    small = {name: value for name, value in SMALL.items() if name in names["DIGITS"]}
    flags = [*flags, *(word for name, value in small.items() for word in (f"--{name.replace('_', '-')}", str(value)))]
    names["main"](cli(names["Recipe"], list(flags), presets={"data": {"digits": names["DIGITS"]}}))


def epochs(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "epoch"]


@pytest.mark.parametrize("name", PRETRAINING)
def test_pictures_alone_suffice(place, tmp_path, name):
    use(name, "--data", str(place / "photos"), *TINY, "--out", str(tmp_path / "run"))
    (epoch,) = epochs(tmp_path / "run")
    assert epoch["images"] == 12
    assert np.isfinite(epoch["train_loss"])
    assert not any("knn" in key or "probe" in key for key in epoch)


def test_labelled_pictures_are_asked_and_vote(place, tmp_path, capsys):
    flags = ["--data", str(place / "photos"), "--val", str(place / "labelled"), *TINY]
    use("pretrain_simclr", *flags, "--out", str(tmp_path / "run"))
    page = write_report(tmp_path / "run", say=lambda line: None).read_text()
    assert "most similar features" in page
    assert "of its class" not in page  # those beside have none
    (epoch,) = epochs(tmp_path / "run")
    assert epoch["val_knn20"] in (0.0, 0.25, 0.5, 0.75, 1.0)  # of the four that are asked
    assert "train_probe_top1" not in epoch
    file = str(tmp_path / "f.npz")
    use("knn", "--weights", str(tmp_path / "run"), *flags[:4], "--k", "20", "--workers", "0", "--features", file)
    said = capsys.readouterr().out
    assert "4 images of " in said
    assert "12 features" in said


def test_such_a_run_when_finished_says_so_has_a_page_and_gives_features(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    flags = ["--data", "photos", *TINY, "--out", str(tmp_path / "run")]
    use("pretrain_moco", *flags)
    use("pretrain_moco", *flags)  # it is finished, and says so
    assert "this run is finished" in capsys.readouterr().out
    page = write_report(tmp_path / "run", say=lambda line: None).read_text()
    assert "12 training images" in page
    assert "of its class" not in page
    file = str(tmp_path / "f.npz")
    use("knn", "--weights", str(tmp_path / "run"), "--data", "photos", "--features", file, "--workers", "0")
    found = load_features(file)
    assert len(found) == 12
    assert found.labels.tolist() == [UNKNOWN] * 12


def test_k_nn_of_pictures_alone_is_refused_with_what_can_be_had(place):
    with pytest.raises(ValueError, match=r"has no labels for k-NN; --val SHARDS .* --features"):
        use("knn", "--data", str(place / "photos"))
