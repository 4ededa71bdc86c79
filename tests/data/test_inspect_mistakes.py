"""What the command refuses in one line, and names in shards that it does not trust."""

import pytest

from blocks.data.inspect import __main__ as command
from blocks.data.printable import printable
from tests.data.inspected import FIRST, TALL, run, shard
from tests.data.pictures import encoded, picture, shards


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/at-all-*.tar"], "no shard matches"),
        ([], "the following arguments are required: SHARDS"),
        (["SHARDS", "--rows", "0"], "0 is not a whole number from 1 on"),
        (["SHARDS", "--sheet", "a.jpg"], "is not a .png; give a.png"),
        (["SHARDS", "--json", "no-such-folder/facts.json"], "its folder does not exist"),
        (["SHARDS", "--flip", "1", "--erase", "0.5"], "--flip, --erase are for a sheet; give --sheet FILE.png too"),
        (["SHARDS", "--flip", "0", "--num-local", "0", "--augment", "device"], "--num-local, --augment are for a"),
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
