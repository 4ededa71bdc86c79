"""Servers that pack what they send, unasked, and that say when they want to be asked again."""

import email.utils
import gzip
import hashlib
import http.server
import io
import threading
import time
import zlib
from contextlib import contextmanager

import pytest

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.storage import FetchError, Retries
from blocks.data.storage.fetch import fetch, read, version
from blocks.data.storage.part import Part
from blocks.data.storage.source import Version
from tests.data.indexed import write_index
from tests.data.pictures import shards

DATA = bytes(range(256)) * 400
QUICK = Retries(attempts=3, first_delay=0.01, max_delay=3, timeout=2)


@contextmanager
def answering(answer):
    """A server; `answer(handler, number of the request)` answers."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            answer(self, len(asked))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def send(handler, data, status=200, cut=None, **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": len(data), "ETag": '"1"', **headers}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(data[:cut])


def packed_by(pack, name, data=DATA):
    return lambda handler, _: send(handler, pack(data), Content_Encoding=name)


PACKERS = [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]


@pytest.mark.parametrize(("name", "pack"), PACKERS)
def test_what_comes_packed_is_the_file_all_the_same(name, pack):
    with answering(packed_by(pack, name)) as (url, _):
        assert read(f"{url}/index.json", QUICK) == DATA
        memory, sha256 = io.BytesIO(), hashlib.sha256(DATA).hexdigest()
        fetch(f"{url}/a.tar", Part(memory), QUICK, Version(len(DATA)), sha256)
        assert memory.getvalue() == DATA
        assert version(f"{url}/a.tar", QUICK) == Version(None, '"1"')  # its length is not that of the file


def test_members_one_after_another_are_one_file():
    with answering(packed_by(lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]), "gzip")) as (url, _):
        assert read(f"{url}/a.tar", QUICK) == DATA


def test_a_file_that_is_packed_itself_stays_so():
    """As Apache says of every .gz."""
    packed = gzip.compress(DATA)
    with answering(lambda handler, _: send(handler, packed, Content_Encoding="x-gzip")) as (url, _):
        assert read(f"{url}/a.tar.gz?token=1", QUICK) == packed
        assert version(f"{url}/a.tgz", QUICK).bytes == len(packed)


def test_packed_and_cut_it_is_asked_for_as_a_whole_again():
    packed = gzip.compress(DATA)

    def answer(handler, number):
        send(handler, packed, cut=200 if number == 1 else None, Content_Encoding="gzip")

    with answering(answer) as (url, asked):
        assert read(f"{url}/a.tar", QUICK) == DATA
    assert asked == [("/a.tar", None)] * 2


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", gzip.compress(DATA)[:200], "each time: cut within its gzip encoding"),
        ("gzip", b"nonsense", "each time: its gzip encoding is damaged"),
        ("br", DATA, "comes in Content-Encoding br, which was not asked for"),
    ],
)
def test_what_cannot_be_unpacked_is_an_error(encoding, body, words):
    with (
        answering(lambda handler, _: send(handler, body, Content_Encoding=encoding)) as (url, _),
        pytest.raises(FetchError, match=words),
    ):
        read(f"{url}/a.tar", QUICK)


def test_shards_with_an_index_come_through_such_a_server(tmp_path):
    shards(tmp_path, 6, 3)
    write_index(tmp_path, ["a", "b", "c"])

    def answer(handler, _):
        path = tmp_path / handler.path.lstrip("/")
        send(handler, gzip.compress(path.read_bytes()), Content_Encoding="gzip")

    here = Reader(open_shards(tmp_path))
    with answering(answer) as (url, _):
        away = Reader(open_shards(f"{url}/", retries=QUICK))
        assert [away.read(i) for i in range(6)] == [here.read(i) for i in range(6)]


@pytest.mark.parametrize("date", [True, False])
def test_a_server_says_when_to_come_again_in_seconds_or_by_the_clock(date):
    times = []

    def answer(handler, number):
        times.append(time.time())
        wait = email.utils.formatdate(time.time() + 2, usegmt=True) if date else "1"
        send(handler, DATA if number > 1 else b"", 200 if number > 1 else 503, Retry_After=wait)

    with answering(answer) as (url, _):
        assert read(f"{url}/a.tar", QUICK) == DATA
    assert times[1] - times[0] > 0.9


@pytest.mark.parametrize("wish", ["soon", "-5", "Mon, 99 Foo 2020", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", "²"])
def test_a_wish_that_is_none_is_passed_over(wish):
    def answer(handler, number):
        send(
            handler,
            DATA if number > 1 else b"",
            200 if number > 1 else 503,
            Retry_After=wish.encode().decode("latin-1"),
        )

    began = time.monotonic()
    with answering(answer) as (url, _):
        assert read(f"{url}/a.tar", QUICK) == DATA
    assert time.monotonic() - began < 2
