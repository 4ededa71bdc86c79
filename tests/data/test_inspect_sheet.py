"""The command's contact sheet."""

import pytest
from PIL import Image

from blocks.data.inspect import knobs
from tests.data.inspected import run
from tests.data.pictures import shards


def test_the_sheet_of_the_command_is_the_same_for_a_seed(tmp_path, capsys):
    folder = tmp_path / "shards"
    shards(folder, 9, 4, damaged=(2,))
    flags = ["--policy", "3a", "--erase", "0.5", "--mixup", "0.8", "--cutmix", "1", "--rows", "4", "--columns", "3"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(folder, "--sheet", tmp_path / f"{name}.png", "--seed", seed, "--img-size", 12, *flags)
    first, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == same != other
    assert "4 samples, random resized crops: img_size 12, policy 3a, erase 0.5, mixup 0.8" in capsys.readouterr().out


@pytest.mark.parametrize("views", knobs.PRESETS)
def test_every_preset_of_views_has_a_sheet(tmp_path, views):
    shards(tmp_path / "shards", 3, 3)
    target = tmp_path / "sheet.png"
    arguments = [tmp_path / "shards", "--sheet", target, "--views", views, "--img-size", 16, "--rows", 2]
    small = ["--local-size", 8] if views in ("swav", "dino", "dinov2", "ibot") else []
    assert run(*arguments, *small, "--augment", "device") == 0
    with Image.open(target) as sheet:
        assert sheet.width > 128 * 3


def test_without_a_readable_sample_there_is_no_sheet_but_a_report(tmp_path, capsys):
    shards(tmp_path / "shards", 3, 3, damaged=(0, 1, 2))
    assert run(tmp_path / "shards", "--sheet", tmp_path / "sheet.png") == 1
    said = capsys.readouterr().out
    assert "not drawn, for no sample is readable" in said
    assert "damaged     3 of 3" in said
    assert not (tmp_path / "sheet.png").exists()
