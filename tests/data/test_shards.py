import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.data import shards as command
from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import convert
from blocks.data.writing.writer import write_shards
from tests.data.pictures import encoded, picture, samples
from tests.data.writing.made import files, image_folder, members

ROOT = Path(__file__).parents[2]


def stored(folder):
    """(label, bytes) of every sample in stored order."""
    index = open_shards(folder)
    reader = Reader(index)
    return [(int(index.label[i]), reader.read(i)) for i in range(len(index))]


def run(*arguments):
    return command.main([*map(str, arguments), "--workers", "0"])


def test_the_command_from_end_to_end(tmp_path):
    folder = image_folder(tmp_path / "images")
    (folder / "dog" / "broken.jpg").write_bytes((folder / "dog" / "1.JPEG").read_bytes()[:200])
    (folder / "no\ntes.txt").write_text("no image")
    (folder / "owl" / "Thumbs.db").write_text("no image")
    arguments = [folder, tmp_path / "out", "--samples-per-shard", "6", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "blocks.data.shards", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "15 images of 3 classes in 3 shards" in done.stdout
    assert "unreadable: dog/broken.jpg: " in done.stdout
    assert "1 of 16 images are unreadable" in done.stdout
    assert "2 files do not end in jpg, jpeg, jpe, " in done.stdout
    assert "tiff: no\\ntes.txt, owl/Thumbs.db\n" in done.stdout
    manifest = json.loads((tmp_path / "out" / "index.json").read_text())
    assert manifest["classes"] == ["cat", "dog", "owl"]
    train = manifest["splits"]["train"]
    assert train["samples_per_class"] == [5, 5, 5]
    assert [(s["name"], s["samples"]) for s in train["shards"]] == [
        (f"train-{i:06d}.tar", n) for i, n in enumerate((6, 6, 3))
    ]
    assert all(s["bytes"] == os.path.getsize(tmp_path / "out" / s["name"]) for s in train["shards"])
    wanted = [
        (label, path.read_bytes())
        for label, name in enumerate(manifest["classes"])
        for path in (folder / name).rglob("[0-9].*")
    ]
    assert sorted(stored(tmp_path / "out")) == sorted(wanted)
    assert open_shards(tmp_path / "out").classes == ("cat", "dog", "owl")


def test_shards_are_not_sorted_by_class(tmp_path):
    run(image_folder(tmp_path / "images", count=10), tmp_path / "out", "--samples-per-shard", 10)
    labels = [label for label, _ in stored(tmp_path / "out")]
    assert labels != sorted(labels)
    assert all(len(set(labels[i : i + 10])) == 3 for i in (0, 10, 20))


def test_the_same_images_give_the_same_bytes(tmp_path):
    """Whatever the times of the files, the place of the folder and the number of workers."""
    folder = image_folder(tmp_path / "images")
    run(folder, tmp_path / "out")
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, other)
    for path in other.rglob("*.*"):
        os.utime(path, (1, 1))
    assert command.main([str(other), str(tmp_path / "again"), "--workers", "2"]) == 0
    assert files(tmp_path / "out") == files(tmp_path / "again")


def test_train_and_val_are_converted_together(tmp_path):
    for split, count in (("train", 5), ("val", 2)):
        image_folder(tmp_path / "images" / split, count=count)
    assert run(tmp_path / "images", tmp_path / "out") == 0
    assert set(files(tmp_path / "out")) == {
        "train-000000.tar", "train-samples.npy", "val-000000.tar", "val-samples.npy", "index.json", "_info.json",
    }  # fmt: skip
    assert len(open_shards(f"{tmp_path}/out/val-*.tar")) == len(open_shards(tmp_path / "out", split="val")) == 6
    assert run(tmp_path / "images", tmp_path / "one", "--split", "val") == 0
    assert len(open_shards(tmp_path / "one")) == 6


@pytest.mark.parametrize(("other", "classes"), [("test", ("cat", "dog")), ("val", ())])
def test_splits_are_not_taken_for_classes(tmp_path, capsys, other, classes):
    """Of another name than val; or without class folders, as ImageNet's val comes."""
    image_folder(tmp_path / "images" / "train", classes=("cat", "dog"))
    image_folder(tmp_path / "images" / other, classes=classes)
    (tmp_path / "images" / other).mkdir(exist_ok=True)
    assert run(tmp_path / "images", tmp_path / "out") == 2
    assert f"has {' and '.join(sorted(('train', other)))}, which are splits and no classes" in capsys.readouterr().err
    assert run(tmp_path / "images" / "train", tmp_path / "out") == 0


def test_splits_with_different_classes_are_refused(tmp_path, capsys):
    image_folder(tmp_path / "images" / "train")
    image_folder(tmp_path / "images" / "val", classes=("cat", "dog", "cow"))
    assert run(tmp_path / "images", tmp_path / "out") == 2
    assert "train and val differ in classes: cow, owl" in capsys.readouterr().err


def test_strict_keeps_nothing_of_a_folder_with_unreadable_images(tmp_path, capsys):
    folder = image_folder(tmp_path / "images")
    (folder / "dog" / "broken.jpg").write_bytes(b"")
    assert run(folder, tmp_path / "out", "--strict") == 1
    assert not files(tmp_path / "out")
    said = capsys.readouterr()
    assert "dog/broken.jpg" in said.out
    assert "1 unreadable images and --strict" in said.err


def _empty(folder):
    folder.mkdir()


def _no_images(folder):
    (folder / "cat").mkdir(parents=True)


def _no_classes(folder):
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(0)))


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "is not a folder"),
        (_empty, "has no class folders"),
        (_no_classes, "has no class folders"),
        (_no_images, "no image"),
    ],
)
def test_a_folder_without_images_is_one_line(tmp_path, capsys, prepare, words):
    prepare(tmp_path / "images")
    assert run(tmp_path / "images", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_shards_is_not_written_to(tmp_path, capsys):
    folder = image_folder(tmp_path / "images")
    assert run(folder, tmp_path / "out") == 0
    before = files(tmp_path / "out")
    assert run(folder, tmp_path / "out") == 2
    assert "holds shards already" in capsys.readouterr().err
    assert files(tmp_path / "out") == before


def test_the_options_of_encoding_reach_the_shards(tmp_path, capsys):
    folder = image_folder(tmp_path / "images")
    run(folder, tmp_path / "out", "--resize", 4, "--reencode", "webp", "--quality", 50, "--bytes-per-shard", 4096)
    index = open_shards(tmp_path / "out")
    assert len(index.shards) > 1
    reader = Reader(index)
    assert {min(reader.image(i).size) for i in range(15)} == {4}
    assert all(reader.read(i)[8:12] == b"WEBP" for i in range(15))
    assert run(folder, tmp_path / "other", "--quality", 50) == 2
    assert "quality 50 is of no use" in capsys.readouterr().err


@pytest.mark.parametrize(("workers", "labels"), [("-1", []), ("-3", ["--unlabelled"])])
def test_a_count_of_workers_below_0_is_refused_before_anything_is_made(tmp_path, capsys, workers, labels):
    folder = image_folder(tmp_path / "images", count=1)
    assert command.main([str(folder), str(tmp_path / "out"), "--workers", workers, *labels]) == 2
    assert f"error: workers {workers} is not a count; give 0 or more processes\n" == capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_list_is_converted_too(tmp_path, capsys):
    image_folder(tmp_path / "images")
    (tmp_path / "list.csv").write_text("path,label\nimages/cat/1.JPEG,cat\nimages/owl/2.png,owl\n")
    assert run(tmp_path / "list.csv", tmp_path / "out", "--split", "val") == 0
    assert "val: 2 images of 2 classes in 1 shards" in capsys.readouterr().out
    assert len(open_shards(tmp_path / "out", split="val")) == 2


def test_an_interrupted_conversion_says_that_it_goes_on_and_does(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    folder = image_folder(tmp_path / "images")
    with monkeypatch.context() as patch:
        patch.setattr(convert, "write_manifest", interrupted)
        assert run(folder, tmp_path / "out", "--samples-per-shard", 6) == 130
    said = capsys.readouterr().err
    assert said == f"interrupted; 3 whole shards in {tmp_path}/out are kept; the same again goes on after them\n"
    assert run(folder, tmp_path / "out", "--samples-per-shard", 7) == 2
    said = capsys.readouterr().err
    assert "is half-finished with samples_per_shard 6; now samples_per_shard 7; go on with the former, or" in said
    assert said.count("\n") == 1
    assert run(folder, tmp_path / "out", "--samples-per-shard", 6) == 0
    assert run(folder, tmp_path / "whole", "--samples-per-shard", 6) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_conversion_that_is_interrupted_at_once_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "write_shard", interrupted)
    assert run(image_folder(tmp_path / "images"), tmp_path / "out") == 130
    assert not files(tmp_path / "out")
    assert "nothing is kept" in capsys.readouterr().err


def test_a_shard_has_its_name_only_when_it_is_whole(tmp_path):
    """Seen from the source of the samples, which is asked in the middle of every shard; then it fails."""
    seen = []

    def source():
        for i, sample in enumerate(samples(7)):
            seen.append(sorted(path.name for path in tmp_path.glob("*.tar")))
            if i == 6:
                raise OSError("the disk is gone")
            yield sample

    with pytest.raises(OSError, match="the disk is gone"):
        write_shards(source(), tmp_path, "a", samples_per_shard=3)
    assert seen[2] == []
    assert seen[5] == ["a-000000.tar"]
    assert not list(tmp_path.iterdir())


def test_what_webdataset_adds_to_a_sample_is_no_file_of_it(tmp_path):
    """So that samples of its readers can be written again."""
    write_shards([{"__key__": "a", "__url__": "b.tar", "png": encoded(picture(0)), "cls": b"1"}], tmp_path, "a")
    assert list(members(tmp_path / "a-000000.tar")) == ["a.cls", "a.png"]


PNG = encoded(picture(0))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"__key__": "img.1", "png": PNG, "cls": b"3"}], "key 'img.1' does not fit a shard; .*'img_1' would do"),
        ([{"__key__": "../x", "png": PNG, "cls": b"3"}], r"key '\.\./x' does not fit a shard"),
        ([{"__key__": 1, "png": PNG}], "key 1 does not fit a shard"),
        ([{"png": PNG, "cls": b"3"}], "a sample has png, cls and no __key__"),
        ([{"__key__": "a", "png": PNG, "cls": b"3"}] * 2, "key 'a' is given twice in a row"),
        ([{"__key__": "a", "png": PNG, "cls": 3}], "a: cls is of type int; give bytes: b'3'"),
        ([{"__key__": "a", "png": picture(0)}], "a: png is of type Image; give bytes, or use write_dataset"),
        ([{"__key__": "a"}], "a: no file; give its bytes by extension"),
        ([], "there is no sample"),
    ],
)
def test_what_no_reader_could_take_is_not_written(tmp_path, entries, words):
    good = [{"__key__": "0", "png": PNG, "cls": b"0"}] if entries else []
    with pytest.raises(ValueError, match=words):
        write_shards(good + entries, tmp_path, "a", samples_per_shard=1)
    assert not list(tmp_path.iterdir())


def test_shards_of_the_same_name_are_not_mixed_with_new_ones(tmp_path):
    written = write_shards(samples(9), tmp_path, "a", samples_per_shard=3)
    with pytest.raises(ValueError, match=r"holds shards of a already \(a-000000.tar, 3 files\); give another folder"):
        write_shards(samples(4), tmp_path, "a", samples_per_shard=3)
    assert sorted(files(tmp_path)) == [shard["name"] for shard in written]
    write_shards(samples(4), tmp_path, "b")


def test_a_shard_ends_at_a_limit_of_bytes(tmp_path):
    written = write_shards(samples(9), tmp_path, "a", bytes_per_shard=6 * 1024)
    assert len(written) > 1
    assert sum(shard["samples"] for shard in written) == 9
    assert open_shards(tmp_path).label.tolist() == [i % 3 for i in range(9)]
