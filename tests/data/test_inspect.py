"""What the command says of shards whose contents are known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocks.data.index.index import open_shards
from tests.data.inspected import FIRST, SECOND, TALL, WIDE, facts_of, index_json, known_shards, run, shard
from tests.data.pictures import encoded, picture, shards

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return known_shards(tmp_path / "shards")


def test_the_facts_of_known_shards(folder):
    status, facts = facts_of(folder)
    assert status == 1
    assert facts["samples"] == 8
    assert facts["shards"] == [
        {"name": str(path), "samples": 4, "bytes": path.stat().st_size} for path in sorted(folder.glob("*.tar"))
    ]
    assert facts["classes"] == {
        "labelled": True,
        "classes": 4,
        "named": True,
        "counts": [
            {"label": 0, "name": "cat", "samples": 4},
            {"label": 1, "name": "dog", "samples": 2},
            {"label": 2, "name": "owl", "samples": 1},
        ],
        "largest_by_smallest": 4.0,
        "empty": 1,
        "first_empty": ["cow"],
    }
    where = {"shard": str(folder / "train-1.tar"), "key": "f"}
    assert facts["wrong_labels"] == {"samples": 1, "first": [{**where, "label": 7}]}
    assert facts["checksums"] == {"verified": 2, "wrong": []}


def test_the_pictures_of_known_shards(folder):
    """Six are readable: 20 x 10 twice, 10 x 20 twice, 10 x 10 twice."""
    _, facts = facts_of(folder)
    pictures = facts["pictures"]
    assert pictures["readable"] == 6
    assert pictures["formats"] == {"JPEG": 3, "PNG": 3}
    assert pictures["modes"] == {"RGB": 2, "L": 2, "CMYK": 1, "P": 1}
    assert pictures["width"] == pictures["height"] == {"min": 10, "median": 10, "max": 20}
    assert pictures["different_sizes"] == 3
    assert pictures["common_sizes"][0] == {"width": 20, "height": 10, "pictures": 2}
    assert pictures["portrait"] == pictures["landscape"] == pytest.approx(1 / 3)
    sizes = [len(data) for _, _, data, _ in FIRST + SECOND]
    assert pictures["bytes"] == {"min": 0, "median": np.median(sizes), "max": max(sizes)}


def test_duplicates_are_told_by_their_bytes_within_and_across_classes(folder):
    _, facts = facts_of(folder)
    first, second = (str(folder / f"train-{i}.tar") for i in range(2))
    assert facts["duplicates"] == {
        "within_classes": {
            "groups": 1,
            "samples": 2,
            "first": [[{"shard": first, "key": key, "label": 0} for key in "ad"]],
        },
        "across_classes": {
            "groups": 1,
            "samples": 2,
            "first": [[{"shard": first, "key": "c", "label": 1}, {"shard": second, "key": "e", "label": 2}]],
        },
    }


def test_damaged_samples_are_named_with_shard_key_and_reason(folder, capsys):
    _, facts = facts_of(folder)
    assert [(Path(d["shard"]).name, d["key"]) for d in facts["damaged"]] == [("train-0.tar", "b"), ("train-1.tar", "h")]
    assert "truncated" in facts["damaged"][0]["reason"]
    assert facts["damaged"][1]["reason"] == "no bytes"
    said = capsys.readouterr().out
    assert f"damaged     2 of 8, each decoded\n            {folder}/train-0.tar, sample b: " in said
    assert "train-1.tar, sample h: no bytes" in said


DARK = np.random.default_rng(0).integers(0, 16, (8, 8), np.uint8)  # 12 bits of 16


@pytest.mark.parametrize(
    ("pixels", "blank"),
    [
        ([DARK, DARK // 2], 2),
        ([np.full((8, 8), 200, np.uint8), DARK], 2),
        ([np.full((8, 8, 3), (9, 200, 30), np.uint8)], 1),
        ([DARK, DARK + 1], 1),
        ([np.array([[0, 16]], np.uint8)], 0),
    ],
)
def test_pictures_that_are_all_blank_are_told(tmp_path, capsys, pixels, blank):
    contents = [(str(i), "png", encoded(Image.fromarray(array)), 0) for i, array in enumerate(pixels)]
    tmp_path.joinpath("shards").mkdir()
    shard(tmp_path / "shards" / "a.tar", contents)
    status, facts = facts_of(tmp_path / "shards")
    assert (status, facts["pictures"]["blank"]) == (0, blank)
    told = f"blank       all {blank}: below 16 of 255, or of one colour; scale" in capsys.readouterr().out
    assert told == (blank == len(pixels))


def test_quick_looks_at_headers_only(folder):
    """The truncated JPEG has a whole header."""
    _, facts = facts_of(folder, "--quick")
    assert [d["key"] for d in facts["damaged"]] == ["h"]
    assert facts["pictures"]["readable"] == 7
    assert facts["quick"]


def test_the_report_says_it_in_words(folder, capsys):
    assert run(folder) == 1
    said = capsys.readouterr().out
    for line in (
        "samples     8, 4 a shard",
        "classes     4; largest / smallest 4.00",
        "            cat         4",
        "            cow: empty",
        "formats     JPEG 3, PNG 3",
        "width       10 to 20, median 10",
        "sizes       3 different; commonest 20 x 10 (33.3%), ",
        "shapes      landscape 33.3%, portrait 33.3%, square 33.3%",
        "duplicates  within a class: 1 (2 samples with the same bytes)",
        "duplicates  across classes: 1 (2 samples with the same bytes)",
        "labels      1 of 8 not one of 4 classes",
        "train-1.tar, sample f: label 7",
        "checksums   2 right, 0 wrong",
    ):
        assert line in said


def test_sound_shards_are_status_0(tmp_path, capsys):
    shards(tmp_path / "sound", 9, 4)
    assert run(tmp_path / "sound") == 0
    said = capsys.readouterr()
    assert "classes     3, without names; largest / smallest 1.00" in said.out
    assert "duplicates  none" in said.out
    assert "damaged     none of 9, each decoded" in said.out
    assert "checksums" not in said.out
    assert not said.err


def test_a_shard_that_is_not_the_one_of_the_index_is_status_1(tmp_path, capsys):
    """One byte within a picture, where nothing else would see it."""
    folder = tmp_path / "shards"
    names = [Path(name).name for name in shards(folder, 6, 3)]
    index_json(folder, names)
    assert run(folder) == 0
    index = open_shards(folder)
    with open(folder / names[1], "r+b") as file:
        file.seek(int(index.offset[4] + index.size[4]) - 1)  # of the last chunk's checksum
        file.write(b"?")
    status, facts = facts_of(folder)
    assert status == 1
    assert facts["checksums"] == {"verified": 1, "wrong": [str(folder / names[1])]}
    assert "train-000001.tar is not the file of index.json" in capsys.readouterr().out


def test_many_classes_are_told_by_the_largest_the_smallest_and_the_empty(tmp_path, capsys):
    labels = [label for label in range(40) for _ in range(1 + label // 8) if label % 10 != 3]
    contents = [(f"{i:03d}", "png", encoded(picture(i, 4, 4)), label) for i, label in enumerate(labels)]
    tmp_path.joinpath("shards").mkdir()
    shard(tmp_path / "shards" / "a.tar", contents)
    assert run(tmp_path / "shards") == 0
    said = capsys.readouterr().out
    assert "classes     40, without names; largest / smallest 5.00" in said
    assert "..." in said
    assert said.count("\n") < 30
    assert "3, 13, 23, 33: empty" in said


def test_a_folder_with_several_splits(tmp_path, capsys):
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "train-0.tar", [("a", "jpg", WIDE, 0), ("b", "png", TALL, 1)])
    shard(folder / "val-0.tar", [("a", "jpg", WIDE, 1)])
    index_json(folder, ["train-0.tar", "val-0.tar"], ("train", "val"))
    assert run(folder) == 2
    assert "holds the splits train, val; take one" in capsys.readouterr().err
    assert facts_of(folder, "--split", "val")[1]["samples"] == 1
    assert run(folder / "*.tar") == 0
    assert "across classes: 1 (2 samples with the same bytes)" in capsys.readouterr().out


def test_the_command_as_a_process(folder):
    target = folder.parent / "process.json"
    arguments = [folder, "--workers", "2", "--json", target, "--sheet", folder.parent / "sheet.png", "--img-size", "16"]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "blocks.data.inspect", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert not done.stderr
    assert "damaged     2 of 8, each decoded" in done.stdout
    assert json.loads(target.read_text()) == facts_of(folder)[1]
    assert (folder.parent / "sheet.png").is_file()
