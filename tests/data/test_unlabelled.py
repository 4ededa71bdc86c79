"""Samples without a label among labelled ones: skipped, named and counted as unreadable pictures are."""

import json
from itertools import islice

import numpy as np
import pytest
import torch

from blocks.data.index.index import open_shards
from blocks.data.index.scan import NO_LABEL
from blocks.data.inspect import __main__ as command
from blocks.data.loading.eval_loader import EvalLoader
from blocks.data.loading.kept_reader import KEEPS
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.sources import mix_sources
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.pictures import encoded, picture, tar

COUNT = 23  # the label is the sample's number
WITHOUT, DAMAGED = (4, 5, 11, 22), (7,)


def files(numbers, without, damaged=()):
    for i in numbers:
        data = encoded(picture(i))
        yield f"{i:04d}.png", data[:60] if i in damaged else data
        if i not in without or i == 5:  # an empty .cls is none
            yield f"{i:04d}.cls", b"" if i in without else b"%d" % i


def opened(folder, without=WITHOUT, damaged=DAMAGED):
    folder.mkdir(exist_ok=True)
    parts = np.array_split(np.arange(COUNT), 3)
    return open_shards([tar(folder / f"{i}.tar", list(files(p, without, damaged))) for i, p in enumerate(parts)])


@pytest.fixture
def index(tmp_path):
    return opened(tmp_path / "some")


def train_loader(index, **options):
    options = {"batch_size": 6, "transform": TrainTransform(8), "num_classes": COUNT, "seed": 3, **options}
    return TrainLoader(index, **options)


def eval_loader(index, **options):
    return EvalLoader(index, **{"batch_size": 5, "transform": EvalTransform(8), "num_classes": COUNT, **options})


def steps(loader, count=8, start=0):
    with loader:
        return list(islice(loader.batches(start), count))


def test_the_index_holds_them_and_their_names(index):
    assert np.flatnonzero(index.label == NO_LABEL).tolist() == list(WITHOUT)
    assert len(index) == COUNT
    assert index.num_classes == 22  # of those that have one
    assert index.name(4).endswith("0.tar, sample 0004")
    assert np.array_equal(open_shards([shard.name for shard in index.shards]).label, index.label)  # from the cache


def test_training_has_others_in_their_place_and_names_them(index, tmp_path):
    """The order is that of the same shards with all labels and damaged pictures in their place."""
    train, damaged = train_loader(index), train_loader(opened(tmp_path / "damaged", (), WITHOUT + DAMAGED))
    found, wanted = steps(train), steps(damaged)
    for mine, other in zip(found, wanted, strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in other)
    seen = set(torch.cat([batch["labels"] for batch in found]).tolist())
    assert seen == set(range(COUNT)) - set(WITHOUT + DAMAGED)
    reasons = {name[-4:]: reason for name, reason in train.skipped.items()}
    assert set(reasons) == {f"{i:04d}" for i in WITHOUT + DAMAGED}
    assert reasons["0004"] == "no label; wanted 0004.cls with a class number"


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 1)])
def test_processes_workers_and_a_resume_change_no_substitute(index, world_size, num_workers):
    wanted = steps(train_loader(index, repeats=2), 6)[2:]
    where = {"repeats": 2, "world_size": world_size, "num_workers": num_workers}
    ranks = [steps(train_loader(index, rank=rank, **where), 4, start=2) for rank in range(world_size)]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_all_others_once_and_each_of_these_once(index, world_size):
    loaders = [eval_loader(index, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = torch.cat([batch["labels"] for loader in loaders for batch in loader])
    assert seen.tolist() == [i for i in range(COUNT) if i not in WITHOUT + DAMAGED]
    names = [name[-4:] for loader in loaders for name in loader.skipped]
    assert sorted(names) == sorted(f"{i:04d}" for i in WITHOUT + DAMAGED)


@pytest.mark.parametrize("where", KEEPS)
def test_kept_decoded_they_are_skipped_all_the_same(index, where):
    device = TrainTransform(8, home="device", canvas=10)
    plain, kept = train_loader(index, transform=device), train_loader(index, transform=device, decoded=where)
    for mine, other in zip(steps(kept), steps(plain), strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in other)
    assert kept.skipped == plain.skipped


def test_a_mixture_skips_within_the_source(index, tmp_path):
    whole = opened(tmp_path / "whole", (), ())
    train = train_loader(mix_sources([(whole, 0.5), (index, 0.5)]))
    assert len(steps(train, 9)) == 9
    assert {name[-4:] for name in train.skipped} == {f"{i:04d}" for i in WITHOUT + DAMAGED}


@pytest.mark.parametrize("make_loader", [train_loader, eval_loader])
def test_more_than_the_share_is_an_error_at_once_with_names_and_the_way_out(tmp_path, make_loader):
    make_loader(opened(tmp_path / "ten", tuple(range(10))))
    index = opened(tmp_path / "many", tuple(range(12)))
    make_loader(index, max_unreadable=0.6)
    with pytest.raises(ValueError, match=r"12 of 23 samples have no label, and max_unreadable 0\.4 bears 10") as caught:
        make_loader(index, max_unreadable=0.4)
    assert "sample 0000: no label; wanted 0000.cls with a class number" in str(caught.value)
    assert "and 7 more" in str(caught.value)
    with pytest.raises(ValueError, match="1 of 23 samples have no label, and max_unreadable 0 bears 0"):
        make_loader(opened(tmp_path / "one", (3,)), max_unreadable=0)


def test_they_count_together_with_unreadable_pictures(tmp_path):
    val = eval_loader(opened(tmp_path / "both", tuple(range(8)), tuple(range(8, 12))), max_unreadable=0.1)
    with pytest.raises(ValueError, match=r"1[12] of 23 images are unreadable"):
        list(val)


def test_a_set_without_a_single_label_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"none of 23 samples has a label: .*sample 0000: no label; wanted 0000.cls"):
        opened(tmp_path / "none", tuple(range(COUNT)))


def test_a_label_below_zero_is_still_wrong(tmp_path):
    path = tar(tmp_path / "a.tar", [("a.png", encoded(picture(0))), ("a.cls", b"-1")])
    with pytest.raises(ValueError, match="label b'-1' is no class number"):
        open_shards(path)


def test_inspect_counts_and_names_them(index, tmp_path, capsys):
    target, sheet = tmp_path / "facts.json", tmp_path / "sheet.png"
    arguments = [tmp_path / "some", "--json", target, "--workers", 0, "--sheet", sheet, "--rows", 30, "--columns", 1]
    assert command.main([*map(str, arguments), "--img-size", "8"]) == 1
    facts, said = json.loads(target.read_text()), capsys.readouterr().out
    assert [sample["key"] for sample in facts["incomplete"]] == [f"{i:04d}" for i in WITHOUT]
    assert facts["wrong_labels"]["samples"] == 0
    assert facts["classes"]["classes"] == 22
    assert "4 of 23" in said
    assert "2.tar, sample 0022: no label; wanted 0022.cls with a class number" in said
    assert str(NO_LABEL) not in said + target.read_text()
    assert f"{COUNT - len(WITHOUT + DAMAGED)} samples" in said  # on the sheet
