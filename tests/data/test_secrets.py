"""URLs that let one in: they work, and nothing shows what is secret in them."""

import base64
import functools
import http.server
import json
import os
import pickle
import threading
from contextlib import contextmanager

import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.inspect import __main__ as command
from blocks.data.splits import train_and_val
from blocks.data.storage import FetchError, Retries, ShardCache
from blocks.data.storage.fetch import read
from blocks.secrets import shown
from tests.data.indexed import write_index
from tests.data.pictures import shards

QUICK = Retries(attempts=2, first_delay=0.01, max_delay=0.01, timeout=2)
PASSWORD = "p@ss:w%rd"  # as a URL: p%40ss%3Aw%25rd
LOGIN = "me:p%40ss%3Aw%25rd@"
TOKENS = ("s3cret", "p%40ss", "p@ss", "w%25rd")


@contextmanager
def serving(folder, elsewhere=None):
    """A folder for who has the password; /moved/... is at `elsewhere`, /here/... is the folder again."""
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            given = self.headers.get("Authorization", "")
            seen.append((self.path, given))
            wanted = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
            if given != wanted:
                self.send_error(401, f"no, {self.path}")
            elif self.path.startswith(("/moved/", "/here/")):
                self.send_response(302)
                base = elsewhere if self.path.startswith("/moved/") else ""
                self.send_header("Location", f"{base}/{self.path.split('/', 2)[2]}")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{running.server_port}", seen
        running.shutdown()


@pytest.fixture
def folder(tmp_path):
    shards(tmp_path / "set", 10, 4)
    return tmp_path / "set"


def secret(text):
    return any(token in text for token in TOKENS)


def samples(index):
    reader = Reader(index)
    return [reader.read(i) for i in range(len(index))]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_password_lets_one_in_and_is_nowhere(folder, tmp_path, cache, indexed):
    wanted = samples(open_shards(folder))
    if indexed:
        write_index(folder)
    with serving(folder) as (host, seen):
        index = open_shards(f"http://{LOGIN}{host}/train-{{000000..000002}}.tar?token=s3cret", retries=QUICK)
        assert samples(index) == wanted
    assert any("token=s3cret" in path for path, _ in seen)  # as it was given
    told = [repr(index), repr(index.shards), index.name(0), *(shard.name for shard in index.shards)]
    told += [name for _, folders, files in os.walk(cache) for name in folders + files]
    assert not any(map(secret, told))
    assert index.shards[0].name == f"http://me:***@{host}/train-000000.tar?token=***"
    assert samples(pickle.loads(pickle.dumps(index))) == wanted


def test_a_shard_is_the_same_with_another_signature(folder):
    with serving(folder) as (host, _):
        first, again = (
            open_shards(f"http://{LOGIN}{host}/train-000000.tar?X-Amz-Signature={signature}", retries=QUICK)
            for signature in ("s3cret1", "s3cret2")
        )
        assert first.shards[0].in_cache() == again.shards[0].in_cache()


@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cret@{host}/train-000000.tar",
        "http://me:s3cret@{host}/train-{{000000..000002}}.tar",
        "http://me:s3cret@{host}/",
        "http://me:s3cret@{host}/train-*.tar",
        "http://me:s3cret@{host}/train-{{0..",
        "http://me:s3cret@{host}:1/a.tar",
        "http://me:s3cret/x@{host}/a.tar",
        "http://{host}/a.tar?X-Amz-Credential=s3cret&X-Amz-Signature=s3cret",
        "http://{host}/a.tar?sv=1&sig=s3cret",
        "none://me:s3cret@{host}/a.tar",
        "pipe:echo http://me:s3cret@{host}/a.tar >&2; false",
        ["http://me:s3cret@{host}/a.tar", "http://me:s3cret@{host}/a.tar"],
    ],
)
def test_no_error_shows_a_secret(folder, url, capsys):
    with serving(folder) as (host, _):
        url = [one.format(host=host) for one in url] if isinstance(url, list) else url.format(host=host)
        with pytest.raises((OSError, ValueError)) as caught:
            open_shards(url, retries=QUICK)
        assert not secret(str(caught.value) + repr(caught.value))
        assert "***" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_error_of_a_recipe_shows_a_secret():
    with pytest.raises(ValueError, match="needs --val") as caught:
        train_and_val("http://me:s3cret@host/a.tar", "")
    assert not secret(str(caught.value))


def test_a_fetch_that_fails_later_shows_none(folder):
    write_index(folder)
    with serving(folder) as (host, _):
        index = open_shards(f"http://{LOGIN}{host}/?token=s3cret", retries=QUICK)
        (folder / "train-000001.tar").unlink()
        with pytest.raises(FetchError) as caught:
            samples(index)
    assert f"http://me:***@{host}/train-000001.tar" in str(caught.value)
    assert not secret(str(caught.value))


def test_a_full_cache_shows_none(folder, tmp_path):
    with serving(folder) as (host, _), pytest.raises(OSError, match="raise VITMASON_CACHE_GB") as caught:
        open_shards(f"http://{LOGIN}{host}/train-000000.tar", retries=QUICK, cache=ShardCache(tmp_path / "c", 100))
    assert not secret(str(caught.value))


def test_inspect_shows_none(folder, tmp_path, capsys):
    with serving(folder) as (host, _):
        arguments = [f"http://{LOGIN}{host}/train-000000.tar?token=s3cret", "--json", f"{tmp_path}/facts.json"]
        assert command.main([*arguments, "--workers", "0"]) == 0
        command.main([f"http://me:s3cret@{host}/none.tar"])
    said = capsys.readouterr()
    assert not secret(said.out + said.err + json.dumps(json.loads((tmp_path / "facts.json").read_text())))


def test_a_redirect_takes_the_password_along_on_its_own_host_alone(folder):
    with serving(folder) as (other, seen_there), serving(folder, f"http://{other}") as (host, _):
        assert read(f"http://{LOGIN}{host}/here/train-000000.tar", QUICK)
        with pytest.raises(FetchError, match="401"):
            read(f"http://{LOGIN}{host}/moved/train-000000.tar", QUICK)
    assert seen_there == [("/train-000000.tar", "")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://host/a@b.tar: gone", "https://host/a@b.tar: gone"),
        ("https://host:80/a@b.tar", "https://host:80/a@b.tar"),
        ("http://[::1]:80/a.tar", "http://[::1]:80/a.tar"),
        ("https://me:pw@host/a@b.tar", "https://me:***@host/a@b.tar"),
        ("https://me:p@w@host/a.tar", "https://me:***@host/a.tar"),
        ("https://token@host/a.tar", "https://***@host/a.tar"),
        ("https://host/a?b=1&access_token=x&c=2#d", "https://host/a?b=1&access_token=***&c=2#d"),
        ("https://host/a?X-Amz-Security-Token=x&X-Amz-Date=2", "https://host/a?X-Amz-Security-Token=***&X-Amz-Date=2"),
        ("hf://datasets/org/name@main/a.tar", "hf://datasets/org/name@main/a.tar"),
        ("memory://a@b.tar", "memory://a@b.tar"),
        ("401 no, /a?token=x: sorry", "401 no, /a?token=***: sorry"),
        ("is it token=1? yes, &c=1", "is it token=1? yes, &c=1"),
    ],
)
def test_what_is_shown_of_a_text(text, wanted):
    assert shown(text) == wanted
    assert shown(wanted) == wanted
