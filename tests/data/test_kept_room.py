"""Pictures kept decoded stay below a limit, in the memory, on the device and on the disk."""

import os
import re
from itertools import islice

import pytest

from blocks.data import EvalLoader, EvalTransform, TrainLoader, TrainTransform, open_shards
from blocks.data.loading import kept_reader, kept_room
from blocks.data.loading.kept import keep, open_kept
from blocks.data.loading.kept_room import free_memory
from blocks.data.storage.cache import try_locked
from tests.data.pictures import shards

COUNT = 20
ONE = COUNT * 10 * 10 * 3  # bytes of a set of canvases
DEVICE = TrainTransform(8, home="device", canvas=10)
OTHER = TrainTransform(8, home="device", canvas=10, interpolation="bilinear")
THIRD = TrainTransform(8, home="device", canvas=9)


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, COUNT, 8))


def loader(index, where, **options):
    return TrainLoader(index, batch_size=4, transform=DEVICE, num_classes=3, decoded=where, **options)


def gigabytes(size):
    return f"{size / 1e9:.12f}"


def sets(cache):
    return {path.parent for path in (cache / "decoded").glob("*/pixels.npy")}


@pytest.mark.parametrize("where", ["memory", "device"])
def test_half_of_the_free_memory_is_the_limit(index, where, monkeypatch):
    monkeypatch.setattr(kept_room, "free_memory", lambda: 2 * ONE)
    loader(index, where)
    monkeypatch.setattr(kept_room, "free_memory", lambda: 2 * ONE - 2)
    for refused in (
        lambda: loader(index, where),
        lambda: EvalLoader(index, batch_size=4, transform=EvalTransform(10), num_classes=3, decoded=where),
    ):
        with pytest.raises(ValueError, match=r"20 pictures of 10 x 10 pixels take .* GB decoded, and .* may take") as e:
            refused()
        assert f"{ONE / 1e9:.3g} GB" in str(e.value)
        assert f"{(ONE - 1) / 1e9:.3g} GB" in str(e.value)
        assert "half of the memory that is free" in str(e.value)
        assert re.search(r"decoded='disk'.* VITMASON_DECODED_GB", str(e.value))
        assert "\n" not in str(e.value)


def test_processes_of_a_machine_have_a_copy_each(index, monkeypatch):
    monkeypatch.setattr(kept_room, "free_memory", lambda: 5 * ONE)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"in each of 4 processes"):
        loader(index, "memory", world_size=4)
    loader(index, "disk", world_size=4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    loader(index, "memory", world_size=4)


@pytest.mark.parametrize("where", ["memory", "disk", "device"])
def test_a_limit_of_ones_own(index, where, monkeypatch, cache):
    monkeypatch.setenv("VITMASON_DECODED_GB", gigabytes(ONE - 100))
    with pytest.raises(ValueError, match=r"VITMASON_DECODED_GB") as caught:
        loader(index, where)
    assert f"take {ONE / 1e9:.3g} GB" in str(caught.value)
    assert not sets(cache)  # nothing was decoded in vain
    monkeypatch.setenv("VITMASON_DECODED_GB", gigabytes(ONE + 1000))
    assert len(list(islice(loader(index, where).batches(), 2))) == 2


def test_a_limit_is_a_number(index, monkeypatch):
    for text in ("much", "nan", "-1"):
        monkeypatch.setenv("VITMASON_DECODED_GB", text)
        with pytest.raises(ValueError, match=f"VITMASON_DECODED_GB={text} is not a number of gigabytes"):
            loader(index, "disk")


def test_without_decoded_no_limit_matters(index, monkeypatch):
    monkeypatch.setenv("VITMASON_DECODED_GB", "0")
    loader(index, None)


def test_on_the_disk_the_least_recently_used_set_makes_way(index, monkeypatch, cache):
    monkeypatch.setenv("VITMASON_DECODED_GB", gigabytes(2.5 * ONE))
    first, second = keep(index, DEVICE.cut), keep(index, OTHER.cut)
    os.utime(first, (2, 2))
    os.utime(second, (1, 1))
    third = keep(index, THIRD.cut)
    assert sets(cache) == {first, third}


def test_a_set_in_use_stays_and_a_new_one_without_room_is_an_error(index, monkeypatch, cache):
    monkeypatch.setenv("VITMASON_DECODED_GB", gigabytes(1.5 * ONE))
    first = keep(index, DEVICE.cut)
    used = open_kept(first, in_memory=False)
    with pytest.raises(ValueError, match=r"decoded sets in use.* VITMASON_DECODED_GB"):
        keep(index, OTHER.cut)
    assert sets(cache) == {first}
    assert used.pixels[0].any()
    del used
    assert sets(cache) == {first}
    second = keep(index, OTHER.cut)
    assert sets(cache) == {second}


def test_what_a_killed_process_left_makes_way(index, monkeypatch, cache):
    monkeypatch.setenv("VITMASON_DECODED_GB", gigabytes(1.5 * ONE))
    left = cache / "decoded" / "abc.xyz.tmp" / "abc"
    left.mkdir(parents=True)
    (left / "pixels.npy").write_bytes(bytes(ONE))
    with try_locked(cache / "decoded" / "abc"), pytest.raises(ValueError, match="decoded sets in use"):
        keep(index, DEVICE.cut)  # somebody is at it
    keep(index, DEVICE.cut)
    assert not left.exists()


def test_a_set_that_goes_before_it_is_opened_is_made_again(index, monkeypatch):
    once = []

    def vanishing(folder, in_memory):
        if not once and folder.exists():
            once.append(folder)
            (folder / "pixels.npy").unlink()
            (folder / "readable.npy").unlink()
            folder.rmdir()
        return open_kept(folder, in_memory)

    monkeypatch.setattr(kept_reader, "open_kept", vanishing)
    assert len(list(islice(loader(index, "disk").batches(), 2))) == 2
    assert once


def test_the_free_memory_is_that_of_the_machine_or_less(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:  2000 kB\nMemAvailable:  1000 kB\n")
    assert free_memory(info, tmp_path) == 1000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 600000\ninactive_file 100000\n")
    assert free_memory(info, tmp_path) == 1000 * 1024
    (tmp_path / "memory.max").write_text("900000\n")  # a container's
    assert free_memory(info, tmp_path) == 300000
    (tmp_path / "memory.max").write_text("500000\n")  # less than is taken
    assert free_memory(info, tmp_path) == 0
    assert free_memory() > 0


def test_an_older_container_s_memory_counts_as_well(tmp_path):
    """Of version 1 the pages that nobody uses are those of all groups below."""
    info, group = tmp_path / "meminfo", tmp_path / "memory"
    info.write_text("MemAvailable:  1000 kB\n")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("900000\n")
    (group / "memory.usage_in_bytes").write_text("700000\n")
    (group / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 100000\n")
    assert free_memory(info, tmp_path) == 300000
