"""Shards of pictures alone: every picture is a sample, and no batch has labels."""

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
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import simclr_views
from blocks.data.sources import mix_sources
from blocks.data.subset import knn_shards
from blocks.data.transforms import EvalTransform, TrainTransform
from tests.data.indexed import write_timms
from tests.data.pictures import encoded, gzipped, picture, tar

COUNT = 23


def files(numbers, labelled, damaged=(), imageless=()):
    for i in numbers:
        data = encoded(picture(i))
        if i in imageless:
            yield f"{i:04d}.json", b"{}"
        else:
            yield f"{i:04d}.png", data[:60] if i in damaged else data
        if labelled:
            yield f"{i:04d}.cls", b"%d" % (i % 3)


def written(folder, labelled=False, **faults):
    """Three tars."""
    folder.mkdir(exist_ok=True)
    parts = np.array_split(np.arange(COUNT), 3)
    return [tar(folder / f"{i}.tar", list(files(p, labelled, **faults))) for i, p in enumerate(parts)]


def opened(folder, labelled=False, **faults):
    return open_shards(written(folder, labelled, **faults), need_labels=labelled)


def train_loader(index, **options):
    return TrainLoader(index, **{"batch_size": 6, "transform": TrainTransform(8), "seed": 3, **options})


def eval_loader(index, **options):
    return EvalLoader(index, **{"batch_size": 5, "transform": EvalTransform(8), **options})


def steps(loader, count=8, start=0):
    with loader:
        return list(islice(loader.batches(start), count))


@pytest.fixture
def index(tmp_path):
    return opened(tmp_path / "pictures")


@pytest.fixture
def labelled(tmp_path):
    return opened(tmp_path / "labelled", labelled=True)


# --- the index ---


def test_it_must_be_wished_for(tmp_path):
    paths = written(tmp_path)
    with pytest.raises(ValueError, match=r"none of 23 samples has a label: .*0000\.cls.*pretrain_.*need_labels=False"):
        open_shards(paths)
    index = open_shards(paths, need_labels=False)
    assert not index.labelled
    assert index.num_classes == 0
    assert len(index) == COUNT
    assert not len(index.incomplete)


def test_labels_that_are_there_are_used_all_the_same(tmp_path):
    index = open_shards(written(tmp_path, labelled=True), need_labels=False)
    assert index.labelled
    assert index.num_classes == 3


def test_shards_without_an_image_are_an_error_even_so(tmp_path):
    with pytest.raises(ValueError, match="none of 23 samples has an image"):
        opened(tmp_path, imageless=range(COUNT))


def test_indices_of_others_and_packed_shards_serve(tmp_path, index):
    packed = open_shards([gzipped(path) for path in written(tmp_path / "packed")], need_labels=False)
    assert np.array_equal(packed.size, index.size)
    written(tmp_path / "timm")
    write_timms(tmp_path / "timm")
    assert np.array_equal(open_shards(tmp_path / "timm", need_labels=False).label, index.label)


def test_labels_can_be_left_out(labelled, index):
    found = labelled.without_labels()
    assert not found.labelled
    assert np.array_equal(found.label, index.label)
    assert labelled.labelled
    assert labelled.num_classes == 3


def test_a_part_has_no_labels_either(index):
    part = index.take(np.arange(5))
    assert not part.labelled
    assert len(part) == 5


# --- loaders ---


@pytest.mark.parametrize("transform", [TrainTransform(8), TrainTransform(8, home="device", canvas=10)])
def test_training_shows_every_picture_and_as_with_labels(index, labelled, transform):
    """Order and pixels are those of the same shards with labels."""
    mine = steps(train_loader(index, transform=transform))
    others = steps(train_loader(labelled, transform=transform))
    for batch, other in zip(mine, others, strict=True):
        assert batch.keys() == other.keys() - {"labels"}
        assert all(torch.equal(batch[name], other[name]) for name in batch)


def test_views_and_mixed_views(index, labelled):
    crops = MultiCrop(simclr_views(8))
    mine = steps(train_loader(index, transform=crops, mix=Mixing(0, 1.0, 1.0)), 3)
    others = steps(train_loader(labelled, transform=crops, mix=Mixing(3, 1.0, 1.0)), 3)
    for batch, other in zip(mine, others, strict=True):
        assert batch.keys() == other.keys() - {"labels"}
        assert torch.equal(batch["crops.0"], other["crops.0"])


def test_mixed_images(index, labelled):
    mine = steps(train_loader(index, mix=Mixing(0)), 3)
    for batch, other in zip(mine, steps(train_loader(labelled, mix=Mixing(3)), 3), strict=True):
        assert torch.equal(batch["images"], other["images"])


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 1)])
def test_processes_workers_and_a_resume_change_nothing(index, world_size, num_workers):
    wanted = steps(train_loader(index), 6)[2:]
    where = {"world_size": world_size, "num_workers": num_workers}
    ranks = [steps(train_loader(index, rank=rank, **where), 4, start=2) for rank in range(world_size)]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_shows_each_once(index, world_size):
    batches = [batch for rank in range(world_size) for batch in eval_loader(index, rank=rank, world_size=world_size)]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(COUNT))
    assert not any("labels" in batch for batch in batches)


@pytest.mark.parametrize("where", KEEPS)
def test_kept_decoded(index, where):
    device = TrainTransform(8, home="device", canvas=10)
    for mine, other in zip(
        steps(train_loader(index, transform=device, decoded=where)),
        steps(train_loader(index, transform=device)),
        strict=True,
    ):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in other)


def test_damaged_pictures_and_samples_without_one_are_skipped_and_named(tmp_path):
    train = train_loader(opened(tmp_path, damaged=(7,), imageless=(4, 11)))
    steps(train)
    reasons = {name[-4:]: reason for name, reason in train.skipped.items()}
    assert reasons.keys() == {"0004", "0007", "0011"}
    assert reasons["0004"].startswith("no image; wanted 0004.jpg")
    with pytest.raises(ValueError, match="2 of 23 samples have no image, and max_unreadable 0 bears 0"):
        train_loader(train.index, max_unreadable=0)


@pytest.mark.parametrize("make_loader", [train_loader, eval_loader])
def test_classes_without_labels_are_refused_and_no_classes_with_them(index, labelled, make_loader):
    with pytest.raises(ValueError, match="num_classes 3 and samples without labels"):
        make_loader(index, num_classes=3)
    with pytest.raises(ValueError, match=r"num_classes 0 and samples with labels; .*without_labels"):
        make_loader(labelled, num_classes=0)
    assert make_loader(labelled).num_classes == 3
    assert make_loader(index).num_classes == 0


def test_a_mixture_with_pictures_alone_has_no_labels(index, labelled):
    mixed = mix_sources([(index, 0.5), (labelled, 0.5)])
    assert not mixed.labelled
    assert mixed.num_classes == 0
    train = train_loader(mixed)
    assert not any("labels" in batch for batch in steps(train, 9))
    assert not train.skipped


# --- who votes ---


def test_training_images_vote_where_they_have_labels(labelled, tmp_path):
    val = opened(tmp_path / "val", labelled=True)
    voters, asked = knn_shards(labelled, val, 0.5)
    assert len(voters) < len(labelled)
    assert len(asked) == len(val)


def test_else_half_of_the_labelled_images_vote_on_the_other(index, labelled):
    voters, asked = knn_shards(index, labelled, 0.1)
    assert len(voters) + len(asked) == len(labelled)
    assert not set(voters.offset + voters.shard * 10**6) & set(asked.offset + asked.shard * 10**6)
    assert np.bincount(voters.label).tolist() == [4, 4, 4]
    assert np.bincount(asked.label).tolist() == [4, 4, 3]


def test_none_votes_without_labels(index, labelled):
    assert knn_shards(index, None, 0.1) == ()
    assert knn_shards(labelled, None, 0.1) == ()


def test_too_few_labelled_images_to_halve_are_refused(index, labelled):
    with pytest.raises(ValueError, match="1 labelled image for"):
        knn_shards(index, labelled.take(np.arange(1)), 0.1)


# --- seen ---


def test_inspect_says_so_and_draws_them(index, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    flags = ["--workers", "0", "--sheet", str(sheet), "--rows", "4", "--columns", "1", "--img-size", "8"]
    assert command.main([str(tmp_path / "pictures"), *flags]) == 0
    said = capsys.readouterr().out
    assert "classes     none: pictures without labels" in said
    assert "incomplete" not in said
    assert "4 samples" in said
    assert str(NO_LABEL) not in said


def test_inspect_tells_duplicates_without_classes(tmp_path, capsys):
    same = encoded(picture(0))
    tar(tmp_path / "a.tar", [(f"{i}.png", same) for i in range(3)])
    assert command.main([str(tmp_path / "a.tar"), "--workers", "0"]) == 0
    said = capsys.readouterr().out
    assert "duplicates  1 (3 samples with the same bytes)" in said
    assert "class" not in said.partition("\nduplicates")[2]
