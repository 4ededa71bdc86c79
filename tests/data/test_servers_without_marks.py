"""Web servers that say little of a file, or that answer with a page for what they lack."""

import warnings

import pytest

from blocks.data.index.index import open_shards
from blocks.data.storage import Retries
from tests.data.indexed import write_index
from tests.data.pictures import shards
from tests.data.server import serving

QUICK = Retries(attempts=2, first_delay=0.01, max_delay=0.01, timeout=2)
BRACES = "train-{000000..000001}.tar"
SILENT = dict(ranges=False, etags=False, lengths=False)


@pytest.fixture
def folder(tmp_path):
    shards(tmp_path, 4, 2)
    return tmp_path


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("page", [b"<!doctype html><html>an app</html>", b"", b"null", b"[]", b'"none"', b"404"])
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_in_the_place_of_an_index_is_none(folder, page, kind):
    missing = ("index.json", "_info.json")
    with serving(files(folder) | dict.fromkeys(missing, page), types=dict.fromkeys(missing, kind)) as server:
        assert len(open_shards(f"{server.url}/{BRACES}", retries=QUICK)) == 4
        with pytest.raises(FileNotFoundError, match=r"has no index\.json or _info\.json to be read"):
            open_shards(f"{server.url}/", retries=QUICK)


def test_a_damaged_index_is_still_an_error(folder):
    write_index(folder)
    with serving(files(folder)) as server:
        server.files["index.json"] = server.files["index.json"][:50]
        with pytest.raises(ValueError, match=r"index\.json is not an index of shards"):
            open_shards(f"{server.url}/{BRACES}", retries=QUICK)


def test_a_page_in_the_place_of_a_shard_is_told_as_one(folder):
    page = b"<!doctype html><html>an app</html>"
    with serving({**files(folder), "none.tar": page}) as server, pytest.raises(ValueError, match=r"none\.tar is trunc"):
        open_shards(f"{server.url}/none.tar", retries=QUICK)


def test_shards_that_no_mark_tells_from_newer_ones_are_warned_of_once(folder):
    told = r"000000\.tar \(the first of 2\): .* neither length, ETag nor time .* index\.json beside"
    with serving(files(folder), **SILENT) as server:
        with pytest.warns(UserWarning, match=told) as warned:
            open_shards(f"{server.url}/{BRACES}", retries=QUICK)
        assert [warning.filename for warning in warned] == [__file__]


def test_no_warning_where_something_tells_them(folder):
    with warnings.catch_warnings(action="error"):
        with serving(files(folder)) as server:
            server.etags = False
            open_shards(f"{server.url}/{BRACES}", retries=QUICK)
        write_index(folder)
        with serving(files(folder), **SILENT) as server:
            open_shards(f"{server.url}/{BRACES}", retries=QUICK)
