import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.data import shards as command
from blocks.data.index import open_shards
from blocks.data.read import Reader
from blocks.data.writer import write_shards
from tests.data.pictures import encoded, picture, samples

ROOT = Path(__file__).parents[2]


def image_folder(root, classes=("cat", "dog", "owl"), count=5):
    for label, name in enumerate(classes):
        (root / name / "deep").mkdir(parents=True)
        for i in range(count):
            data = encoded(picture(100 * label + i), "jpeg" if i % 2 else "png")
            (root / name / ("deep" if i == 0 else "") / f"{i}.{'JPEG' if i % 2 else 'png'}").write_bytes(data)
    return root


def stored(folder):
    """(label, bytes) of every sample in stored order."""
    index = open_shards(folder)
    reader = Reader(index)
    return [(int(index.label[i]), reader.read(i)) for i in range(len(index))]


def run(*arguments):
    return command.main([*map(str, arguments), "--workers", "0"])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_from_end_to_end(tmp_path):
    folder = image_folder(tmp_path / "images")
    (folder / "dog" / "broken.jpg").write_bytes((folder / "dog" / "1.JPEG").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
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
    assert "2 files are no images: notes.txt, owl/Thumbs.db" in done.stdout
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
    assert set(files(tmp_path / "out")) == {"train-000000.tar", "val-000000.tar", "index.json"}
    assert len(open_shards(f"{tmp_path}/out/val-*.tar")) == len(open_shards(tmp_path / "out", split="val")) == 6
    assert run(tmp_path / "images", tmp_path / "one", "--split", "val") == 0
    assert len(open_shards(tmp_path / "one")) == 6


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


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "write_manifest", interrupted)
    assert run(image_folder(tmp_path / "images"), tmp_path / "out") == 130
    assert not files(tmp_path / "out")


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


def test_a_shard_ends_at_a_limit_of_bytes(tmp_path):
    written = write_shards(samples(9), tmp_path, "a", bytes_per_shard=6 * 1024)
    assert len(written) > 1
    assert sum(shard["samples"] for shard in written) == 9
    assert open_shards(tmp_path).label.tolist() == [i % 3 for i in range(9)]
