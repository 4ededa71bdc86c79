"""A user without a home folder, as in many containers: only what needs the cache asks for a place for it."""

from pathlib import Path

import pytest

from blocks.data.index.index import open_shards
from tests.data.indexed import write_index
from tests.data.pictures import gzipped, shards


@pytest.fixture
def no_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    def begin():
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", home)

    return begin


def test_shards_with_an_index_need_no_cache(tmp_path, no_home):
    shards(tmp_path, 4, 2)
    write_index(tmp_path)
    no_home()
    assert len(open_shards(tmp_path)) == 4


@pytest.mark.parametrize("packed", [False, True])
def test_what_needs_the_cache_says_how_to_name_one(tmp_path, no_home, packed):
    (name,) = shards(tmp_path, 2, 2)
    name = gzipped(name) if packed else name
    no_home()
    with pytest.raises(OSError, match="no home folder for the cache; set XDG_CACHE_HOME to a folder that can"):
        open_shards(name)
