"""Only the same conversion goes on: other settings and sources are refused, or begin anew."""

import os

import pytest
from torchvision.datasets import ImageFolder

from blocks.data.writing import Encoding, Item, Source, journal, list_source
from tests.data.pictures import encoded, picture
from tests.data.writing.interruption import interrupted, write
from tests.data.writing.made import files, image_folder, items


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(samples_per_shard=5), "with samples_per_shard 4; now samples_per_shard 5; go on with"),
        (dict(bytes_per_shard=5), "with bytes_per_shard 1000000000; now bytes_per_shard 5"),
        (dict(encoding=Encoding(resize=3)), "with resize None; now resize 3"),
        (dict(encoding=Encoding(reencode="jpg")), "with reencode None; now reencode jpg"),
        (dict(split="val"), "with train from the iterator; now val from the iterator"),
    ],
)
def test_other_settings_are_refused_with_both_named(tmp_path, options, words):
    interrupted(items(20), tmp_path)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=words):
        write(items(20), tmp_path, **options)
    assert files(tmp_path) == before
    write(items(20), tmp_path)


def test_another_source_is_refused(tmp_path):
    folder = image_folder(tmp_path / "images", count=10)
    other = Source("other", [*items(9)], (), "2")
    interrupted(items(20), tmp_path / "out")
    with pytest.raises(ValueError, match=rf"with train from the iterator; now train from {folder} \(30 samples\)"):
        write(folder, tmp_path / "out")
    with pytest.raises(ValueError, match="is given twice"):
        write(Source("one", [*items(14), *items(8)], (), "1"), tmp_path / "two")
    with pytest.raises(ValueError, match=r"train from one \(22 samples\); now train from other \(9 samples\)"):
        write(other, tmp_path / "two")
    write(other, tmp_path / "two", restart=True)
    write(other, tmp_path / "whole")
    assert files(tmp_path / "two") == files(tmp_path / "whole")


def test_an_iterator_that_gives_other_samples_is_refused(tmp_path):
    interrupted(items(20), tmp_path)
    with pytest.raises(ValueError, match="gives other samples than the 8 before; begin anew with --restart"):
        write(items(20, first=1), tmp_path)
    with pytest.raises(ValueError, match="gave 5 samples, but 8 before"):
        write(items(5), tmp_path)


def test_a_key_that_is_given_again_after_an_interruption_is_refused(tmp_path):
    interrupted(items(20), tmp_path)
    with pytest.raises(ValueError, match="key 'k2' is given twice, the second time to sample 8"):
        write([*items(8), Item("k2", picture(0), 0)], tmp_path)


def test_a_folder_that_was_moved_is_the_same_source(tmp_path, monkeypatch):
    folder = image_folder(tmp_path / "images")
    with monkeypatch.context() as patch:
        patch.setattr("blocks.data.writing.convert.write_manifest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(folder, tmp_path / "out")
    folder.rename(tmp_path / "elsewhere")
    write(tmp_path / "elsewhere", tmp_path / "out")


def _half(folder, out):
    """A conversion that ends before its index is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blocks.data.writing.convert.write_manifest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(folder, out)


@pytest.mark.parametrize("kind", ["folder", "list", "dataset"])
def test_files_that_changed_since_are_another_source(tmp_path, kind):
    """Of the same names and as many: half of the shards would hold what they were before."""
    folder = image_folder(tmp_path / "images")
    listing = tmp_path / "list.csv"
    listing.write_text("path,label\n" + "".join(f"{path},0\n" for path in sorted(folder.rglob("*.*"))))
    source = {"folder": lambda: folder, "list": lambda: listing, "dataset": lambda: ImageFolder(folder)}[kind]
    _half(source(), tmp_path / "out")
    (folder / "cat" / "2.png").write_bytes(encoded(picture(77)))
    with pytest.raises(ValueError, match=r"half-finished and .* \(15 samples\) changed since: .*, or begin anew"):
        write(source(), tmp_path / "out")
    write(source(), tmp_path / "out", restart=True)
    write(source(), tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_file_of_another_time_is_another_one(tmp_path):
    folder = image_folder(tmp_path / "images")
    _half(folder, tmp_path / "out")
    os.utime(folder / "cat" / "2.png", ns=(1, 1))
    with pytest.raises(ValueError, match="changed since"):
        write(folder, tmp_path / "out")


def test_a_file_that_is_not_there_is_no_other_one_each_time(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"path": "gone.png", "label": 0}\n{"path": "a\\u0000b.png", "label": 1}\n')
    assert list_source(tmp_path / "list.jsonl").identity == list_source(tmp_path / "list.jsonl").identity


def test_restart_begins_anew_with_other_settings(tmp_path):
    interrupted(items(20), tmp_path / "out")
    write(items(6), tmp_path / "out", split="val", restart=True)
    write(items(6), tmp_path / "whole", split="val")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_restart_does_not_remove_what_is_finished(tmp_path):
    write(items(6), tmp_path)
    with pytest.raises(ValueError, match="holds shards already"):
        write(items(6), tmp_path, restart=True)


def test_without_a_whole_shard_other_settings_are_taken(tmp_path):
    interrupted(items(20), tmp_path, after=2)
    assert not files(tmp_path)
    (tmp_path / journal.NAME).write_text('{"sources": {"train": ["it", ""]}}\n')
    (tmp_path / "train-000000.tar.tmp").write_bytes(b"of a killed process")
    write(items(20), tmp_path, samples_per_shard=9)
    write(items(20), tmp_path / "whole", samples_per_shard=9)
    assert set(os.listdir(tmp_path)) - {"whole"} == set(files(tmp_path / "whole"))
