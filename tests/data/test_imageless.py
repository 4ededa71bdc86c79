"""Samples with a label and no image: skipped, named and counted as those without a label are."""

import json

import numpy as np
import pytest
import torch

from blocks.data.index.index import open_shards
from blocks.data.index.scan import NO_LABEL
from blocks.data.inspect import __main__ as command
from blocks.data.loading.kept_reader import KEEPS
from blocks.data.transforms import TrainTransform
from tests.data.pictures import encoded, picture, tar
from tests.data.test_unlabelled import eval_loader, steps, train_loader

COUNT = 23  # the label is the sample's number
WITHOUT, UNLABELLED = (4, 11, 22), (7,)
REASON = "no image; wanted 0004.jpg (or jpeg, jpe, jfif, png, webp, bmp, gif, ppm, tif, tiff)"


def files(numbers, without=WITHOUT, unlabelled=UNLABELLED):
    for i in numbers:
        if i not in without:
            yield f"{i:04d}.png", encoded(picture(i))
        if i not in unlabelled:
            yield f"{i:04d}.cls", b"%d" % i


def opened(folder, **which):
    folder.mkdir(exist_ok=True)
    parts = np.array_split(np.arange(COUNT), 3)
    return open_shards([tar(folder / f"{i}.tar", list(files(p, **which))) for i, p in enumerate(parts)])


@pytest.fixture
def index(tmp_path):
    return opened(tmp_path / "some")


def test_the_index_holds_them_and_their_names(index):
    assert np.flatnonzero(index.label == NO_LABEL).tolist() == sorted(WITHOUT + UNLABELLED)
    assert len(index) == COUNT
    assert index.name(4).endswith("0.tar, sample 0004")
    assert index.why_incomplete(4) == REASON
    assert index.why_incomplete(7) == "no label; wanted 0007.cls with a class number"


@pytest.mark.parametrize("decoded", [None, *KEEPS])
def test_training_and_evaluation_leave_them_out_and_name_them(index, decoded):
    train = train_loader(index, transform=TrainTransform(8, home="device", canvas=10), decoded=decoded)
    val = eval_loader(index)
    rest = set(range(COUNT)) - set(WITHOUT + UNLABELLED)
    assert set(torch.cat([batch["labels"] for batch in steps(train)]).tolist()) == rest
    assert torch.cat([batch["labels"] for batch in val]).tolist() == sorted(rest)
    for loader in (train, val):
        reasons = {name[-4:]: reason for name, reason in loader.skipped.items()}
        assert set(reasons) == {f"{i:04d}" for i in WITHOUT + UNLABELLED}
        assert reasons["0004"] == REASON


def test_more_than_the_share_is_an_error_at_once_with_names(tmp_path):
    index = opened(tmp_path / "many", without=tuple(range(12)), unlabelled=())
    with pytest.raises(
        ValueError, match=r"12 of 23 samples have no label or no image, and max_unreadable 0\.4"
    ) as told:
        train_loader(index, max_unreadable=0.4)
    assert "sample 0000: no image; wanted 0000.jpg" in str(told.value)


def test_a_set_without_a_single_image_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"none of 23 samples has a label and an image: .*sample 0000: no image"):
        opened(tmp_path / "none", without=tuple(range(COUNT)), unlabelled=())


def test_inspect_names_them_once(index, tmp_path, capsys):
    target = tmp_path / "facts.json"
    assert command.main([str(tmp_path / "some"), "--json", str(target), "--workers", "0"]) == 1
    facts, said = json.loads(target.read_text()), capsys.readouterr().out
    assert [sample["key"] for sample in facts["incomplete"]] == ["0004", "0007", "0011", "0022"]
    assert facts["damaged"] == []
    assert said.count("sample 0004: no image; wanted 0004.jpg") == 1
