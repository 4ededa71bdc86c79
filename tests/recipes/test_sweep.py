"""The sweep of learning rates."""

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest

from blocks.data import write_dataset
from blocks.train.cli import cli

PATH = Path(__file__).parents[2] / "recipes" / "lr_sweep.py"


@pytest.mark.parametrize("bounds", [{"lr_min": 0.0}, {"lr_min": -1.0}, {"lr_min": 0.1, "lr_max": 0.01}])
def test_rates_without_a_logarithm_are_refused_before_anything_is_trained(bounds):
    names = runpy.run_path(str(PATH), run_name="recipe")
    with pytest.raises(ValueError, match=r"--lr-min .* is not above 0 and at most --lr-max"):
        names["main"](names["Recipe"](**bounds))


TINY = ["--size", "micro", "--img-size", "8", "--patch-size", "4", "--local-layers", "1", "--num-lrs", "2"]
TINY += ["--epochs", "2", "--batch-size", "4", "--workers", "0"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of 12 pictures and 6 to validate, in three classes."""
    pictures = np.random.default_rng(0).integers(0, 256, (18, 10, 10, 3), np.uint8)
    samples = [(str(i), picture, i % 3) for i, picture in enumerate(pictures)]
    folder = tmp_path_factory.mktemp("shards")
    write_dataset({"train": samples[:12], "val": samples[12:]}, folder, workers=0, progress=False)
    return folder


def use(*flags):
    names = runpy.run_path(str(PATH), run_name="recipe")
    names["main"](cli(names["Recipe"], list(flags), presets={"data": {"digits": names["DIGITS"]}}))


def test_ones_own_images_are_swept_and_drawn(shards, tmp_path, capsys):
    use("--data", str(shards), *TINY, "--plot", str(tmp_path / "deep" / "curve.png"))
    told = capsys.readouterr().out
    assert "best learning rate: " in told
    assert (tmp_path / "deep" / "curve.png").stat().st_size > 1000


def test_without_matplotlib_nothing_is_trained_for_a_curve(shards, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install matplotlib, or --plot '' for none"):
        use("--data", str(shards), *TINY, "--plot", str(tmp_path / "curve.png"))
    use("--data", str(shards), *TINY, "--plot", "")
    assert "best learning rate: " in capsys.readouterr().out


def test_the_digits_keep_their_small_model():
    names = runpy.run_path(str(PATH), run_name="recipe")
    recipe = cli(names["Recipe"], [], presets={"data": {"digits": names["DIGITS"]}})
    assert (recipe.size, recipe.img_size, recipe.patch_size, recipe.local_layers) == ("micro", 16, 4, 3)
