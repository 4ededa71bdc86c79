"""What the census finds, by how many processes and from wherever the shards are."""

from functools import partial

import pytest
from PIL import Image

from blocks.data.index.index import open_shards
from blocks.data.index.scan import MAX_CLASSES
from blocks.data.inspect import census
from blocks.data.inspect.census import look_at, take_census
from blocks.data.inspect.facts import gather
from blocks.data.inspect.views import readable_samples
from blocks.data.storage import FetchError, Retries
from tests.data.inspected import CMYK, FIRST, TALL, WIDE, known_shards, shard
from tests.data.pictures import shards
from tests.data.server import ALWAYS, Fault, serving


@pytest.fixture
def folder(tmp_path):
    return known_shards(tmp_path / "shards")


def test_the_largest_label_is_counted_without_a_table_of_its_size(tmp_path):
    index = open_shards(shard(tmp_path / "a.tar", [("a", "png", TALL, MAX_CLASSES - 1)]))
    facts = gather(index, take_census(index))
    assert facts["classes"]["empty"] == MAX_CLASSES - 1
    assert facts["classes"]["first_empty"][:2] == ["0", "1"]


def test_what_training_refuses_is_damaged_even_by_its_header(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    assert not look_at(CMYK, quick=True).reason
    for quick in (True, False):
        assert "limit of 150; make it smaller first" in look_at(WIDE, quick).reason
    assert look_at(b"GIF?" * 9).reason == "no picture that Pillow knows"


def test_workers_find_what_one_process_finds(tmp_path):
    """More samples than a worker takes at a time."""
    index = open_shards(shards(tmp_path, 150, 40, damaged=(3, 77, 149)))
    here, there = take_census(index), take_census(index, workers=2)
    assert here == there
    assert sorted(here.damaged) == [3, 77, 149]
    assert len(here.digests) == 150


def test_a_shard_that_lost_its_end_after_it_was_opened_has_damaged_samples(tmp_path):
    """All of them: what is left may have been written anew too."""
    path = shard(tmp_path / "a.tar", FIRST)
    index = open_shards(path)
    path.write_bytes(path.read_bytes()[: int(index.offset[2])])
    facts = gather(index, take_census(index))
    assert [sample["key"] for sample in facts["damaged"]] == [f"byte {offset}" for offset in index.offset]
    assert "changed since it was opened" in facts["damaged"][1]["reason"]
    assert "shorter" in facts["damaged"][2]["reason"]


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
