"""A folder or a list without splits gets both."""

import json

import pytest

from blocks.data import open_shards
from blocks.data import shards as command
from blocks.data.splits import train_and_val
from blocks.data.writing import convert
from tests.data.pictures import encoded, picture, read_manifest
from tests.data.writing.made import files, image_folder, items, members, refused, write


def split_of(folder):
    """The pictures of train and of val, by the ends of their keys: the names of their files."""
    return [
        {name.rpartition(".")[0].partition("_")[2] for path in folder.glob(f"{split}-*.tar") for name in members(path)}
        for split in ("train", "val")
    ]


def flat(root, counts):
    """Classes of so many pictures, whose names tell them apart."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{name}-{i}.png").write_bytes(encoded(picture(100 * label + i)))
    return root


def test_every_picture_is_in_one_of_both_and_about_the_share_in_val(tmp_path):
    write(flat(tmp_path / "in", {"cat": 100, "dog": 100}), tmp_path / "out", val_share=0.2)
    train, val = split_of(tmp_path / "out")
    assert len(train) + len(val) == len(train | val) == 200
    for name in ("cat", "dog"):
        assert 10 <= sum(each.startswith(name) for each in val) <= 32  # three deviations of 20
    assert read_manifest(tmp_path / "out")["classes"] == ["cat", "dog"]
    opened = train_and_val(str(tmp_path / "out"), "")
    assert [len(index) for index in opened] == [len(train), len(val)]


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.999])
def test_a_class_of_two_has_one_on_each_side_and_a_single_picture_is_for_training(tmp_path, share):
    write(flat(tmp_path / "in", {"one": 1, "two": 2, "three": 3}), tmp_path / "out", val_share=share)
    splits = read_manifest(tmp_path / "out")["splits"]
    one, three, two = zip(*(splits[split]["samples_per_class"] for split in ("train", "val")), strict=True)
    assert one == (1, 0)
    assert two == (1, 1)
    assert three == {1e-9: (2, 1), 0.999: (1, 2)}.get(share, three)  # no more than is wanted
    assert min(three) >= 1


def test_more_pictures_move_none_of_the_others(tmp_path):
    write(flat(tmp_path / "in", {"cat": 40, "dog": 40}), tmp_path / "few", val_share=0.25)
    flat(tmp_path / "in", {"bat": 9, "cat": 80, "dog": 41})
    write(tmp_path / "in", tmp_path / "more", val_share=0.25)
    (train, val), (more_train, more_val) = split_of(tmp_path / "few"), split_of(tmp_path / "more")
    assert train < more_train
    assert val < more_val


def test_a_greater_share_holds_the_smaller_one(tmp_path):
    folder = flat(tmp_path / "in", {"cat": 60})
    parts = []
    for share in (0.1, 0.3):
        write(folder, tmp_path / str(share), val_share=share)
        parts.append(split_of(tmp_path / str(share))[1])
    assert parts[0] < parts[1]


def test_equal_pictures_anywhere_give_equal_files(tmp_path):
    for name in ("one", "two"):
        write(flat(tmp_path / name, {"cat": 12, "dog": 12}), tmp_path / f"{name}-out", val_share=0.3)
    assert files(tmp_path / "one-out") == files(tmp_path / "two-out")


def test_what_is_for_validation_is_so_in_every_version(tmp_path):
    """Never to change: written anew or with more pictures, what was trained on must not turn up among these."""
    write(flat(tmp_path / "in", {"cat": 20}), tmp_path / "out", val_share=0.25)
    assert split_of(tmp_path / "out")[1] == {"cat-8", "cat-11", "cat-14"}


def test_a_list_is_split_too_with_its_metadata(tmp_path):
    flat(tmp_path, {"cat": 30})
    rows = "".join(f"cat/cat-{i}.png,{i % 2},m{i}\n" for i in range(30))
    (tmp_path / "list.csv").write_text(f"path,label,note\n{rows}")
    write(tmp_path / "list.csv", tmp_path / "out", val_share=0.3)
    train, val = split_of(tmp_path / "out")
    assert (len(train | val), bool(train & val)) == (30, False)
    for path in (tmp_path / "out").glob("*.tar"):
        notes = {name: json.loads(data) for name, data in members(path).items() if name.endswith("json")}
        assert notes
        assert all(
            note == {"note": "m" + name.partition("cat-")[2].removesuffix(".json")} for name, note in notes.items()
        )


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "0.1", True])
def test_what_is_no_share_is_refused(tmp_path, share):
    refused(f"val_share {share!r} is not between 0 and 1", image_folder(tmp_path / "in"), tmp_path, val_share=share)


def test_what_has_splits_already_is_refused(tmp_path):
    image_folder(tmp_path / "in" / "train")
    image_folder(tmp_path / "in" / "val")
    refused("val_share 0.1 and the splits train, val do not fit", tmp_path / "in", tmp_path, val_share=0.1)
    refused("val_share 0.1 and the splits val do not", tmp_path / "in" / "val", tmp_path, val_share=0.1, split="val")
    refused("is for pictures with labels", tmp_path / "in" / "val", tmp_path, val_share=0.1, labelled=False)
    refused("the iterator has none; give both splits", items(3), tmp_path, val_share=0.1)
    refused("no class has two pictures", flat(tmp_path / "few", {"cat": 1}), tmp_path, val_share=0.1)


def test_what_is_interrupted_goes_on_with_the_same_share_only(tmp_path, monkeypatch):
    folder, options = flat(tmp_path / "in", {"cat": 15, "dog": 15}), {"samples_per_shard": 3}
    write(folder, tmp_path / "whole", val_share=0.3, **options)
    real = convert.write_shard

    def in_val(samples, path, *limits):
        if path.name == "val-000001.tar":
            raise ZeroDivisionError
        return real(samples, path, *limits)

    monkeypatch.setattr(convert, "write_shard", in_val)
    with pytest.raises(ZeroDivisionError):
        write(folder, tmp_path / "out", val_share=0.3, **options)
    monkeypatch.undo()
    for share in (0.4, None):
        told = f"half-finished with val_share 0.3.*; now val_share {share}"
        refused(told, folder, tmp_path, val_share=share, **options)
    write(folder, tmp_path / "out", val_share=0.3, **options)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_the_command(tmp_path, capsys):
    folder = flat(tmp_path / "in", {"cat": 20, "dog": 20})
    (folder / "notes.txt").write_text("no picture")
    arguments = [str(folder), str(tmp_path / "out"), "--workers", "0"]
    assert command.main([*arguments, "--val-share", "0.2"]) == 0
    told = capsys.readouterr().out
    assert told.count("notes.txt") == 1
    assert "not converted" not in told
    for split in ("train", "val"):
        assert f"{split}: {len(open_shards(tmp_path / 'out', split))} images of 2 classes" in told
    assert command.main([*arguments, "--val-share", "2"]) == 2
    assert "val_share 2.0 is not between 0 and 1" in capsys.readouterr().err
