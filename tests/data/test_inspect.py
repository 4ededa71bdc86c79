"""What the command says of shards whose contents are known."""

import hashlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocks.data.index.index import open_shards
from blocks.data.inspect import __main__ as command
from blocks.data.inspect import census, knobs
from blocks.data.inspect.census import look_at, take_census
from blocks.data.inspect.facts import gather
from blocks.data.inspect.views import readable_samples
from blocks.data.printable import printable
from blocks.data.storage import FetchError, Retries
from blocks.data.writing.manifest import write_manifest
from tests.data.pictures import encoded, picture, shards, tar
from tests.data.server import ALWAYS, Fault, serving

ROOT = Path(__file__).parents[2]
CLASSES = ["cat", "dog", "owl", "cow"]
WIDE, TALL = encoded(picture(0, 10, 20), "jpeg"), encoded(picture(1, 20, 10, "L"))
CMYK, PALETTE = encoded(picture(2, 10, 10, "CMYK"), "jpeg"), encoded(picture(3, 10, 10, "P"))
FIRST = [("a", "jpg", WIDE, 0), ("b", "jpg", WIDE[:-40], 0), ("c", "png", TALL, 1), ("d", "jpg", WIDE, 0)]
SECOND = [("e", "png", TALL, 2), ("f", "jpg", CMYK, 7), ("g", "png", PALETTE, 0), ("h", "png", b"", 1)]


def shard(path, contents):
    files = [
        part
        for key, extension, data, label in contents
        for part in ((f"{key}.{extension}", data), (f"{key}.cls", b"%d" % label))
    ]
    return tar(path, files)


def index_json(folder, names, splits=("train",)):
    """An index of every shard of a split whose name it begins with, and its checksum."""
    of = {split: [folder / name for name in names if name.startswith(split)] for split in splits}
    opened = {split: open_shards(paths) for split, paths in of.items()}
    tables = {split: np.stack((index.offset, index.size, index.label)) for split, index in opened.items()}
    write_manifest(folder, CLASSES, {split: list(map(_entry, paths)) for split, paths in of.items()}, tables)


def _entry(path):
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": path.name, "samples": len(open_shards(path)), "bytes": path.stat().st_size, "sha256": checksum}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "train-0.tar", FIRST)
    shard(folder / "train-1.tar", SECOND)
    index_json(folder, ["train-0.tar", "train-1.tar"])
    return folder


def run(*arguments):
    return command.main([*map(str, arguments), "--workers", "0"])


def facts_of(folder, *arguments):
    target = folder.parent / "facts.json"
    status = run(folder, "--json", target, *arguments)
    return status, json.loads(target.read_text())


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


def test_a_label_beyond_all_measure_is_counted_without_a_table_of_its_size(tmp_path):
    index = open_shards(shard(tmp_path / "a.tar", [("a", "png", TALL, 10**17), ("b", "png", WIDE, -1)]))
    facts = gather(index, take_census(index))
    assert facts["classes"]["empty"] == 10**17
    assert facts["classes"]["first_empty"][:2] == ["0", "1"]
    assert facts["wrong_labels"]["samples"] == 1


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/at-all-*.tar"], "no shard matches"),
        ([], "the following arguments are required: SHARDS"),
        (["SHARDS", "--rows", "0"], "0 is not a whole number from 1 on"),
        (["SHARDS", "--sheet", "a.jpg"], "is not a .png; give a.png"),
        (["SHARDS", "--json", "no-such-folder/facts.json"], "its folder does not exist"),
        (["SHARDS", "--flip", "1", "--erase", "0.5"], "--flip, --erase are for a sheet; give --sheet FILE.png too"),
        (["SHARDS", "--sheet", "OUT.png", "--policy", "rend-m9"], "policy 'rend-m9' is not known"),
        (["SHARDS", "--sheet", "OUT.png", "--views", "simclr", "--policy", "3a"], "--policy has no use with --views"),
        (["SHARDS", "--sheet", "OUT.png", "--sigma", "0.1", "1"], "--sigma has no use without --views, which takes"),
        (["SHARDS", "--sheet", "OUT.png", "--img-size", "8", "8", "8"], "img_size (8, 8, 8)"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path, capsys, arguments, words):
    shards(tmp_path / "sound", 3, 3)
    arguments = [a.replace("SHARDS", f"{tmp_path}/sound").replace("OUT", f"{tmp_path}/out") for a in arguments]
    try:
        status = command.main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert status == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert words in said.err


def test_a_truncated_tar_is_one_line(tmp_path, capsys):
    path = shard(tmp_path / "a.tar", FIRST)
    path.write_bytes(path.read_bytes()[:3000])
    assert run(path) == 2
    said = capsys.readouterr().err
    assert f"error: {path} is truncated or damaged" in said
    assert said.count("\n") == 1


def test_no_name_in_a_tar_is_a_path_or_moves_the_cursor(tmp_path, capsys):
    inside = tmp_path / "inside"
    inside.mkdir()
    keys = ("../evil", f"{tmp_path}/evil", "red\x1b[31m", "two\nlines")
    contents = [(key, "png", encoded(picture(i))[:60], 0) for i, key in enumerate(keys)]
    path = shard(inside / "a.tar", [*contents, ("../good", "png", TALL, 0)])
    assert run(path, "--sheet", inside / "sheet.png", "--json", inside / "facts.json", "--columns", 1) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inside"]
    assert sorted(p.name for p in inside.iterdir()) == ["a.tar", "facts.json", "sheet.png"]
    said = capsys.readouterr().out
    assert r"sample red\x1b[31m: " in said
    assert r"sample two\nlines: " in said
    assert "sample ../evil: " in said
    assert printable("caf\udcc3é") == r"caf\udcc3é"


def test_what_training_refuses_is_damaged_even_by_its_header(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    assert not look_at(CMYK, quick=True).reason
    for quick in (True, False):
        assert "DecompressionBomb" in look_at(WIDE, quick).reason
    assert look_at(b"GIF?" * 9).reason == "no picture that Pillow knows"


def test_workers_find_what_one_process_finds(tmp_path):
    """More samples than a worker takes at a time."""
    index = open_shards(shards(tmp_path, 150, 40, damaged=(3, 77, 149)))
    here, there = take_census(index), take_census(index, workers=2)
    assert here == there
    assert sorted(here.damaged) == [3, 77, 149]
    assert len(here.digests) == 150


def test_a_shard_that_lost_its_end_after_it_was_opened_has_damaged_samples(tmp_path):
    path = shard(tmp_path / "a.tar", FIRST)
    index = open_shards(path)
    path.write_bytes(path.read_bytes()[: int(index.offset[2])])
    facts = gather(index, take_census(index))
    assert [sample["key"] for sample in facts["damaged"][1:]] == [f"byte {index.offset[i]}" for i in (2, 3)]
    assert "shorter" in facts["damaged"][1]["reason"]


def test_a_remote_shard_is_fetched_once_whatever_the_caches_size(folder, monkeypatch):
    paths = sorted(folder.glob("*.tar"))
    monkeypatch.setenv("VITMASON_CACHE_GB", str(1.5e-9 * max(path.stat().st_size for path in paths)))
    with serving({path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        facts = gather(index := open_shards(f"{server.url}/"), take_census(index))
        assert [server.bodies(path.name) for path in paths] == [1, 1]
    assert [shard["bytes"] for shard in facts["shards"]] == [path.stat().st_size for path in paths]


def test_a_part_of_a_census_has_its_own_shards_alone(tmp_path, monkeypatch):
    """With all of them a large set would be sent to the workers as often as it has parts."""
    index, sent = open_shards(shards(tmp_path, 12, 3)), []
    wanted = take_census(index)
    monkeypatch.setattr(census, "CHUNK", 2)
    monkeypatch.setattr(
        census, "process_map", lambda fn, parts, _: map(fn, (sent.append(len(part.shards)) or part for part in parts))
    )
    assert take_census(index) == wanted
    assert sent == [1, 2, 1, 1, 2, 1]


@pytest.mark.parametrize("look", [take_census, partial(readable_samples, count=8, seed=0)])
def test_a_shard_out_of_reach_is_an_error_and_is_not_waited_for_by_every_sample(folder, look):
    quick = Retries(attempts=2, first_delay=0.01, max_delay=0.01)
    with serving({path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        index = open_shards(f"{server.url}/", retries=quick)
        server.faults["train-1.tar"] = Fault(ALWAYS, status=500)
        with pytest.raises(FetchError, match=r"train-1\.tar: not fetched in 2 attempts"):
            look(index)
        assert server.bodies("train-1.tar") == 2


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
    small = ["--local-size", 8] if views in ("swav", "dino", "ibot") else []
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
