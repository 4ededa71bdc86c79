"""An interrupted conversion goes on, and ends in the files of an uninterrupted one."""

import errno
import multiprocessing
import os
import time

import numpy as np
import pytest

from blocks.data import open_shards
from blocks.data import shards as command
from blocks.data.writing import Encoding, Item, NothingKept, Source, encoding, iterator_source, journal, write_dataset
from tests.data.pictures import encoded, picture
from tests.data.writing.made import files, image_folder, items

DAMAGED = 3


def damaged(first=0, count=20):
    """Items with an unreadable one, the first ones in a shard that is whole early."""
    for item in items(count):
        yield Item(item.key, b"no image", item.label) if item.key == f"k{DAMAGED}" else item


def write(source, folder, **options):
    return write_dataset(source, folder, **{"samples_per_shard": 4, "workers": 0, "progress": False} | options)


def interrupted(source, folder, after=10, **options):
    """Write until the source fails behind so many samples."""

    def failing():
        for number, item in enumerate(source):
            if number == after:
                raise KeyError("out of a source")
            yield item

    with pytest.raises(KeyError) as caught:
        write(failing(), folder, **options)
    return caught.value


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


def test_an_error_says_that_it_can_go_on(tmp_path):
    error = interrupted(items(20), tmp_path)
    assert error.__notes__ == [f"2 whole shards in {tmp_path} are kept; the same again goes on after them"]
    assert set(files(tmp_path)) == {"train-000000.tar", "train-000001.tar", journal.NAME}


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


@pytest.mark.parametrize("pattern", ["", "train-*.tar", "train-000000.tar"])
def test_half_a_data_set_is_not_opened(tmp_path, pattern):
    interrupted(items(20), tmp_path)
    with pytest.raises(ValueError, match=r"half-finished conversion .* goes on"):
        open_shards(tmp_path / pattern)
    write(items(20), tmp_path)
    assert len(open_shards(tmp_path)) == 20


def test_restart_begins_anew_with_other_settings(tmp_path):
    interrupted(items(20), tmp_path / "out")
    write(items(6), tmp_path / "out", split="val", restart=True)
    write(items(6), tmp_path / "whole", split="val")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_restart_does_not_remove_what_is_finished(tmp_path):
    write(items(6), tmp_path)
    with pytest.raises(ValueError, match="holds shards already"):
        write(items(6), tmp_path, restart=True)


@pytest.mark.parametrize("lost", ["torn", "missing", "short"])
def test_a_shard_that_is_not_whole_is_written_again(tmp_path, lost):
    write(items(20), tmp_path / "whole")
    interrupted(items(20), tmp_path / "out")
    shard, lines = tmp_path / "out" / "train-000001.tar", tmp_path / "out" / journal.NAME
    if lost == "torn":
        lines.write_bytes(lines.read_bytes()[:-20])
    else:
        shard.write_bytes(b"short")
    if lost == "missing":
        shard.unlink()
    write(items(20), tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_shards_in_a_half_finished_folder_are_not_written_over(tmp_path):
    interrupted(items(20), tmp_path)
    (tmp_path / "train-000004.tar").write_bytes(b"of somebody else")
    with pytest.raises(ValueError, match=r"holds other shards \(train-000004.tar, 1 files\); move them elsewhere"):
        write(items(20), tmp_path, restart=True)


def test_without_a_whole_shard_other_settings_are_taken(tmp_path):
    interrupted(items(20), tmp_path, after=2)
    assert not files(tmp_path)
    (tmp_path / journal.NAME).write_text('{"sources": {"train": ["it", ""]}}\n')
    (tmp_path / "train-000000.tar.tmp").write_bytes(b"of a killed process")
    write(items(20), tmp_path, samples_per_shard=9)
    write(items(20), tmp_path / "whole", samples_per_shard=9)
    assert set(os.listdir(tmp_path)) - {"whole"} == set(files(tmp_path / "whole"))


def _hold(folder, held, release):
    def waiting():
        yield from items(5)
        held.set()
        release.wait()

    write(waiting(), folder)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_written_to(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    write(items(9), tmp_path)
    assert len(open_shards(tmp_path)) == 9


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    held.wait()
    with pytest.raises(ValueError, match="another process is writing shards to"):
        write(items(5), tmp_path)
    release.set()
    process.join()
    assert process.exitcode == 0
    assert "train-000001.tar" in files(tmp_path)


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
