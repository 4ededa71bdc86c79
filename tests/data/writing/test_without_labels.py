"""Pictures without labels become shards: from folders of any shape, lists, data sets and iterators."""

import json

import numpy as np
import pytest

from blocks.data import shards as command
from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.index.scan import NO_LABEL
from blocks.data.splits import pretraining_shards
from blocks.data.writing import Item, folder_source, write_dataset
from tests.data.pictures import encoded, picture, read_manifest
from tests.data.writing.made import files, image_folder, members


def write(source, folder, **options):
    return write_dataset(source, folder, workers=0, progress=False, labelled=False, **options)


def pictures_in(folder):
    """The bytes of all samples, sorted."""
    index = open_shards(folder, need_labels=False)
    assert not index.labelled
    reader = Reader(index)
    return sorted(reader.read(i) for i in range(len(index)))


def loose(root, count=6):
    """Pictures beside each other and below, something that is none, and something hidden."""
    (root / "trip" / "day").mkdir(parents=True)
    for i in range(count):
        (root / ("", "trip", "trip/day")[i % 3] / f"{i}.png").write_bytes(encoded(picture(i)))
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_bytes(encoded(picture(99)))
    return root


@pytest.fixture
def folder(tmp_path):
    return loose(tmp_path / "photos")


def test_a_folder_of_any_shape(folder, tmp_path):
    found = write(folder, tmp_path / "out")["train"]
    assert pictures_in(tmp_path / "out") == sorted(encoded(picture(i)) for i in range(6))
    assert found.samples_per_class == []
    assert found.source.ignored == ("notes.txt",)
    names = members(tmp_path / "out" / "train-000000.tar")
    assert len(names) == 6
    assert not any(name.endswith(".cls") for name in names)


def test_the_index_says_that_there_are_no_classes_and_is_all_that_is_read(folder, tmp_path, monkeypatch):
    write(folder, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest["classes"] == []
    assert manifest["splits"]["train"]["samples_per_class"] == []
    assert (np.load(tmp_path / "out" / "train-samples.npy")[2] == NO_LABEL).all()
    monkeypatch.setattr("blocks.data.index.tables.read_table", None)  # no shard is scanned
    assert len(pictures_in(tmp_path / "out")) == 6


def test_class_folders_are_folders_like_others(tmp_path):
    write(image_folder(tmp_path / "in"), tmp_path / "out")
    assert len(pictures_in(tmp_path / "out")) == 15


def with_splits(root, *folders):
    for i, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        (root / folder / f"{i}.png").write_bytes(encoded(picture(i)))
    return root


@pytest.mark.parametrize("below", ["", "cat"])
@pytest.mark.parametrize("others", [("val",), ("valid", "test"), ("test", "unlabeled")])
def test_of_a_folder_of_splits_those_that_judge_are_not_trained_on(tmp_path, capsys, below, others):
    folder = with_splits(tmp_path / "in", f"train/{below}", *(f"{other}/{below}" for other in others))
    assert command.main([str(folder), str(tmp_path / "out"), "--workers", "0", "--unlabelled"]) == 0
    assert pictures_in(tmp_path / "out") == [encoded(picture(0))]
    told = capsys.readouterr().out
    assert "train: 1 images without labels" in told
    listed = ", ".join(f"{other}/" for other in sorted(others))
    assert f"not converted, for it is none of train: {listed}" in told


def test_splits_without_a_train_are_not_mixed(tmp_path):
    folder = with_splits(tmp_path / "in", "training", "val")
    with pytest.raises(ValueError, match="has training and val, which are splits to keep apart; give one of them: "):
        write(folder, tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "in" / "below").mkdir(parents=True)
    with pytest.raises(ValueError, match="no image"):
        write(tmp_path / "in", tmp_path / "out")


def test_a_list_needs_no_label_and_keeps_one_as_metadata(folder, tmp_path):
    (folder / "list.csv").write_text("path\n0.png\ntrip/1.png\n")
    write(folder / "list.csv", tmp_path / "out")
    assert pictures_in(tmp_path / "out") == sorted(encoded(picture(i)) for i in range(2))
    (folder / "labelled.jsonl").write_text(json.dumps({"path": "0.png", "label": "sea"}))
    write(folder / "labelled.jsonl", tmp_path / "labelled")
    names = members(tmp_path / "labelled" / "train-000000.tar")
    assert {name.rpartition(".")[2] for name in names} == {"png", "json"}
    assert json.loads(next(data for name, data in names.items() if name.endswith("json"))) == {"label": "sea"}


class Pictures:
    """A data set: of pairs, of pictures alone, or of pairs that say -1 for none."""

    classes = ("cat", "dog")

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return {"pair": (picture(i), i % 2), "alone": picture(i), "stl10": (picture(i), -1)}[self.kind]


@pytest.mark.parametrize("kind", ["pair", "alone", "stl10"])
def test_a_dataset(tmp_path, kind):
    write(Pictures(kind), tmp_path / "out")
    assert len(pictures_in(tmp_path / "out")) == 3
    assert read_manifest(tmp_path / "out")["classes"] == []


def test_of_an_iterator_no_label_is_looked_at(tmp_path):
    given = [("a", picture(0), None), ("b", picture(1), -1), Item("c", picture(2)), ("d", picture(3), 4, {"x": 1})]
    given.append(("e", picture(4)))
    write(iter(given), tmp_path / "out")
    assert len(pictures_in(tmp_path / "out")) == 5


def test_a_split_that_is_named_is_taken_from_its_folder(tmp_path):
    for split, count in (("train", 2), ("val", 3)):
        (tmp_path / "in" / split).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "in" / split / f"{i}.png").write_bytes(encoded(picture(i)))
    write(tmp_path / "in", tmp_path / "out", split="val")
    assert len(pictures_in(tmp_path / "out")) == 3
    assert list(read_manifest(tmp_path / "out")["splits"]) == ["val"]


def test_pictures_alone_beside_a_labelled_split(tmp_path):
    image_folder(tmp_path / "labelled")
    sources = {
        "train": folder_source(loose(tmp_path / "alone"), labelled=False),
        "val": folder_source(tmp_path / "labelled"),
    }
    write_dataset(sources, tmp_path / "out", workers=0, progress=False)
    train, val = pretraining_shards(str(tmp_path / "out"), "")
    assert (len(train), train.labelled, train.classes) == (6, False, None)
    assert val.classes == ("cat", "dog", "owl")


def test_a_conversion_that_an_older_version_began_goes_on(folder, tmp_path):
    image_folder(tmp_path / "in")
    with pytest.raises(ZeroDivisionError):
        _stopped(tmp_path / "in", tmp_path / "out", labelled=True)
    journal = tmp_path / "out" / "unfinished.jsonl"
    first, rest = journal.read_text().split("\n", 1)
    settings = json.loads(first)
    assert settings.pop("labelled")
    journal.write_text(json.dumps(settings) + "\n" + rest)
    write_dataset(tmp_path / "in", tmp_path / "out", workers=0, progress=False, samples_per_shard=2)
    assert len(open_shards(tmp_path / "out")) == 15


def test_with_labels_none_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"b: no label; .*labelled=False"):
        write_dataset([("a", picture(0), 0), ("b", picture(1), None)], tmp_path / "out", workers=0, progress=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_equal_sources_give_equal_files_and_what_is_interrupted_goes_on(folder, tmp_path, workers):
    write_dataset(folder, tmp_path / "one", labelled=False, workers=workers, progress=False, samples_per_shard=2)
    for name in ("two", "labelled"):
        with pytest.raises(ZeroDivisionError):
            _stopped(folder, tmp_path / name)
    write(folder, tmp_path / "two", samples_per_shard=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    (folder / "trip" / "more.png").write_bytes(encoded(picture(50)))
    with pytest.raises(ValueError, match="half-finished"):
        write(folder, tmp_path / "labelled", samples_per_shard=2)


def _stopped(folder, out, labelled=False):
    """A conversion that fails after its first shard."""
    from blocks.data.writing import convert

    real = convert.write_shard

    def second_fails(samples, path, *limits):
        if path.name != "train-000000.tar":
            raise ZeroDivisionError
        return real(samples, path, *limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "write_shard", second_fails)
        write_dataset(folder, out, workers=0, progress=False, labelled=labelled, samples_per_shard=2)


def test_the_command(folder, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert command.main([str(folder / "trip" / "day"), out, "--workers", "0"]) == 2
    assert "--unlabelled" in capsys.readouterr().err
    assert command.main([str(folder), out, "--workers", "0", "--unlabelled"]) == 0
    assert "train: 6 images without labels in 1 shards in" in capsys.readouterr().out
    assert len(pictures_in(tmp_path / "out")) == 6
