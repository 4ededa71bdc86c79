"""An interrupted conversion goes on, and ends in the files of an uninterrupted one."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from blocks.data import open_shards
from blocks.data import shards as command
from blocks.data.writing import Item, NothingKept, encoding, iterator_source, journal
from tests.data.pictures import encoded, picture
from tests.data.writing.interruption import interrupted, write
from tests.data.writing.made import files, image_folder, items

DAMAGED = 3


def damaged(first=0, count=20):
    """Items with an unreadable one, the first ones in a shard that is whole early."""
    for item in items(count):
        yield Item(item.key, b"no image", item.label) if item.key == f"k{DAMAGED}" else item


def _slow_command(arguments):
    decode = encoding.decode

    def slow(data, name):
        time.sleep(0.02)
        return decode(data, name)

    encoding.decode = slow
    command.main(arguments)


@pytest.mark.parametrize(("workers", "shards"), [("0", 1), ("2", 3)])
def test_a_killed_command_goes_on_after_the_last_whole_shard(tmp_path, monkeypatch, capsys, workers, shards):
    folder = image_folder(tmp_path / "images", count=12)
    (folder / "owl" / "broken.jpg").write_bytes(b"no image")
    arguments = [str(folder), str(tmp_path / "out"), "--samples-per-shard", "5"]
    process = multiprocessing.get_context("fork").Process(
        target=_slow_command, args=([*arguments, "--workers", workers],)
    )
    process.start()
    while len(list((tmp_path / "out").glob("*.tar"))) < shards and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -9
    whole = len((tmp_path / "out" / journal.NAME).read_bytes().splitlines()) - 1
    assert shards - 1 <= whole < 8  # the last one may be without its line

    decoded = []
    decode = encoding.decode
    monkeypatch.setattr(encoding, "decode", lambda data, name: decoded.append(name) or decode(data, name))
    assert command.main([*arguments, "--workers", "0"]) == 0
    assert len(decoded) in (37 - 5 * whole, 37 - 5 * whole - 1)  # the broken one is before or behind
    assert "unreadable: owl/broken.jpg: " in capsys.readouterr().out
    assert command.main([*arguments[:1], str(tmp_path / "whole"), *arguments[2:], "--workers", "0"]) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_it_goes_on_wherever_an_iterator_failed(tmp_path):
    write(damaged(), tmp_path / "whole")
    for after in range(20):
        folder = tmp_path / str(after)
        interrupted(damaged(), folder, after)
        report = write(damaged(), folder)["train"]
        assert files(folder) == files(tmp_path / "whole")
        assert [name for name, _ in report.unreadable] == [f"k{DAMAGED}"]


def test_it_goes_on_wherever_the_disk_was_waited_for(tmp_path, monkeypatch):
    """The process ends at each of the calls that put bytes and names on the disk, as if it were killed there."""
    write({"train": damaged(), "val": items(3)}, tmp_path / "whole")
    calls, ends = 0, 0
    real = {"fsync": os.fsync, "replace": os.replace}

    def counted(name):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == ends:
                raise KeyboardInterrupt
            return real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(os, name, counted(name))
    for ends in range(1, 100):
        calls = 0
        folder = tmp_path / str(ends)
        try:
            write({"train": damaged(), "val": items(3)}, folder)
            break
        except KeyboardInterrupt:
            write({"train": damaged(), "val": items(3)}, folder)
        assert files(folder) == files(tmp_path / "whole")
    assert 20 < ends < 99


def test_what_is_in_whole_shards_is_drawn_but_not_decoded_again(tmp_path, monkeypatch):
    interrupted(damaged(), tmp_path, after=10)
    decoded = []
    decode = encoding.decode
    monkeypatch.setattr(encoding, "decode", lambda data, name: decoded.append(name) or decode(data, name))
    write(damaged(), tmp_path)
    assert decoded == [f"k{i}" for i in range(9, 20)]  # 4 + 4 and the damaged one are before


class Asked:
    """A map-style dataset that knows which of its pictures it was asked for."""

    def __init__(self, end=None):
        self.asked, self.end = [], end

    def __len__(self):
        return 20

    def __getitem__(self, i):
        if len(self.asked) == self.end:
            raise KeyError("out of a dataset")
        self.asked.append(i)
        return picture(i), i % 3


def test_a_dataset_is_not_asked_again_for_what_is_in_whole_shards(tmp_path):
    before, after, never = Asked(end=10), Asked(), Asked()
    with pytest.raises(KeyError):
        write(before, tmp_path / "out")
    write(after, tmp_path / "out")
    write(never, tmp_path / "whole")
    assert before.asked[:8] + after.asked == never.asked
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_the_order_of_a_folder_is_that_of_every_version(tmp_path):
    """Never to change: a newer version may go on with what an older one began."""
    write(image_folder(tmp_path / "in", ("cat", "dog"), 4), tmp_path / "out")
    index = open_shards(tmp_path / "out")
    assert index.label.tolist() == [1, 0, 0, 0, 1, 1, 1, 0]
    assert "".join(index.name(sample)[-1] for sample in range(8)) == "10132302"  # the files' names


def test_an_error_says_that_it_can_go_on(tmp_path):
    error = interrupted(items(20), tmp_path)
    assert error.__notes__ == [f"2 whole shards in {tmp_path} are kept; the same again goes on after them"]
    assert set(files(tmp_path)) == {"train-000000.tar", "train-000001.tar", journal.NAME}


def test_strict_after_an_interruption_still_keeps_nothing(tmp_path):
    """The unreadable one is in a shard that was whole before."""
    interrupted(damaged(), tmp_path)
    with pytest.raises(NothingKept, match="1 unreadable images") as caught:
        write(damaged(), tmp_path, strict=True)
    assert [name for name, _ in caught.value.written["train"].unreadable] == [f"k{DAMAGED}"]
    assert not files(tmp_path)


def test_a_split_that_is_finished_stays_while_the_next_goes_on(tmp_path):
    def both(val):
        return {"train": iterator_source(items(7)), "val": val}

    def failing():
        yield from items(5)
        raise KeyError

    with pytest.raises(KeyError):
        write(both(failing()), tmp_path / "out")
    report = write(both(items(9)), tmp_path / "out")
    write(both(items(9)), tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert np.array_equal(report["val"].table[2], [i % 3 for i in range(9)])


def test_names_that_are_no_text_survive_the_journal(tmp_path):
    folder = image_folder(tmp_path / "images")
    path = os.path.join(os.fsencode(folder), b"cat", b"gr\xfcn.png")
    with open(path, "wb") as file:
        file.write(encoded(picture(0)))
    with open(path.replace(b".png", b"2.png"), "wb") as file:
        file.write(b"no image")
    assert command.main([str(folder), str(tmp_path / "out"), "--workers", "0"]) == 0
