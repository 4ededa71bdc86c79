"""Fetching from a web server that fails in every way that servers fail in."""

import functools
import hashlib
import io
import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import attrs
import pytest

from blocks.data.storage import FetchError, Retries
from blocks.data.storage.fetch import fetch, read, version
from blocks.data.storage.part import Part
from blocks.data.storage.source import Version
from tests.data.server import ALWAYS, Fault, serving
from tests.data.test_http_encoding import answering, send

DATA = bytes(range(256)) * 40
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
QUICK = Retries(attempts=3, first_delay=0.01, max_delay=0.02, timeout=0.3)


@pytest.fixture
def server():
    with serving({"a.tar": DATA}) as running:
        yield running


def fetched(url: str, retries=QUICK, **options) -> bytes:
    memory = io.BytesIO()
    fetch(url, Part(memory), retries, **options)
    return memory.getvalue()


def test_a_file_comes_as_it_is(server):
    assert read(f"{server.url}/a.tar", QUICK) == DATA
    assert read(f"{server.url}/a.tar?signature=1", QUICK) == DATA
    assert server.asked == [("a.tar", "")] * 2


def test_a_url_may_have_blanks_and_any_letters(server):
    server.files["a%20%C3%BC.tar"] = DATA
    assert read(f"{server.url}/a ü.tar", QUICK) == read(f"{server.url}/a%20%C3%BC.tar", QUICK) == DATA


def test_after_a_cut_the_rest_is_asked_for(server):
    server.faults["a.tar"] = Fault(cut_after=4000)
    assert fetched(f"{server.url}/a.tar") == DATA
    assert server.asked == [("a.tar", ""), ("a.tar", "bytes=4000-")]
    assert server.sent["a.tar"] == len(DATA)


def test_a_large_file_may_be_cut_more_often_than_there_are_attempts(server):
    """As by a proxy that lets no connection live long."""
    large = DATA * 420
    server.files["a.tar"], server.faults["a.tar"] = large, Fault(ALWAYS, cut_after=len(large) // 3)
    assert fetched(f"{server.url}/a.tar", attrs.evolve(QUICK, attempts=2)) == large
    assert server.sent["a.tar"] == len(large)


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_without_ranges_starts_again(etags):
    with serving({"a.tar": DATA}, ranges=False, etags=etags) as server:
        server.faults["a.tar"] = Fault(cut_after=4000)
        assert fetched(f"{server.url}/a.tar") == DATA
        assert server.bodies("a.tar") == 2


def test_ranges_are_used_without_an_etag(server):
    server.etags = False
    server.faults["a.tar"] = Fault(cut_after=4000)
    assert fetched(f"{server.url}/a.tar") == DATA
    assert server.sent["a.tar"] == len(DATA)


@pytest.mark.parametrize(
    ("new", "etags"), [(DATA[::-1], True), (DATA[:5000], True), (DATA[::-1][:5000], False), (DATA[:1000], False)]
)
def test_a_file_that_changes_between_attempts_is_not_pieced_together(server, new, etags, monkeypatch):
    """Without ETags only another length shows it, or a checksum."""
    server.etags = etags
    server.faults["a.tar"] = Fault(cut_after=4000)

    def change(_: float) -> None:
        server.files["a.tar"] = new

    monkeypatch.setattr("blocks.data.storage.retries.time", SimpleNamespace(sleep=change))  # and not the server's own
    assert fetched(f"{server.url}/a.tar") == new


@pytest.mark.parametrize("part", ["bytes 0-10239/10240", "bytes 5000-10239/10240", None])
def test_another_part_than_the_one_asked_for_is_not_taken_for_it(part):
    """Nor is it asked for again: all of it is."""

    def answer(handler, number):
        headers = {"Content_Range": part} if part and number == 2 else {}
        send(handler, DATA, 206 if number == 2 else 200, cut=4000 if number == 1 else None, **headers)

    with answering(answer) as (url, asked):
        assert fetched(f"{url}/a.tar") == DATA
    assert [wanted for _, wanted in asked] == [None, "bytes=4000-", None]


def test_a_file_that_ends_before_the_rest_begins_is_asked_for_as_a_whole():
    def answer(handler, number):
        if number == 2:
            handler.send_error(416)
        else:
            send(handler, DATA if number == 1 else DATA[::-1][:1000], cut=4000 if number == 1 else None)

    with answering(answer) as (url, asked):
        assert fetched(f"{url}/a.tar") == DATA[::-1][:1000]
    assert [wanted for _, wanted in asked] == [None, "bytes=4000-", None]


@pytest.mark.parametrize(
    ("marks", "mark", "only_if"),
    [
        ({"ETag": '"1"', "Last_Modified": DATE}, '"1"', '"1"'),
        ({"ETag": "", "Last_Modified": DATE}, DATE, DATE),
        ({"ETag": 'W/"1"'}, 'W/"1"', None),
    ],
)
def test_the_rest_is_asked_for_by_the_mark_of_the_first_part(marks, mark, only_if):
    """By the ETag, else by the time; a weak one is none for parts of a file, RFC 9110, 13.1.5."""
    wishes = []

    def answer(handler, number):
        wishes.append(handler.headers.get("If-Range"))
        send(handler, DATA, cut=4000 if number == 1 else None, **marks)

    with answering(answer) as (url, _):
        assert fetched(f"{url}/a.tar") == DATA
        assert wishes == [None, only_if]
        assert version(f"{url}/a.tar", QUICK).mark == mark


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_busy_server_is_asked_again(server, status):
    server.faults["a.tar"] = Fault(times=2, status=status)
    assert fetched(f"{server.url}/a.tar") == DATA


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(ALWAYS, status=500), "each time: 500 Internal Server Error"),
        (Fault(ALWAYS, silent=0.5), r"each time: no answer in 0\.3 s"),
        (Fault(ALWAYS, stall=0.5), r"each time: no byte in 0\.3 s, after 0"),
        (Fault(ALWAYS, trickle=0.05), r"only \d+ bytes in 0\.3"),
        (Fault(ALWAYS, length=len(DATA) + 5, ranged=False), r"cut after 10240 of 10245 bytes"),
        (Fault(ALWAYS, cut_after=10), "cut after 10 of 10240 bytes; cut after 20 of 10240 bytes; cut after 30"),
    ],
)
def test_a_server_that_stays_bad_is_given_up_and_told_of(server, fault, told):
    server.faults["a.tar"] = fault
    start = time.monotonic()
    with pytest.raises(FetchError, match=told) as caught:
        fetched(f"{server.url}/a.tar")
    assert time.monotonic() - start < 20  # three timeouts, on a busy machine
    assert str(caught.value).startswith(f"{server.url}/a.tar: not fetched in 3 attempts (")
    assert "Retries(attempts=3, timeout=0.3)" in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        (Fault(garbage=True), {"sha256": hashlib.sha256(DATA).hexdigest()}),
        (Fault(length=100), {"expected": Version(len(DATA))}),
        (Fault(cut_after=0, length=0), {"expected": Version(len(DATA))}),
    ],
)
def test_what_differs_from_the_index_is_fetched_again(server, fault, checks):
    server.faults["a.tar"] = fault
    assert fetched(f"{server.url}/a.tar", **checks) == DATA
    assert server.bodies("a.tar") == 2


def test_what_differs_for_ever_is_an_error_with_both_values(server):
    with pytest.raises(FetchError, match=r"its sha256 is [0-9a-f]{12}\.\.\. where 000000000000\.\.\. is due"):
        fetched(f"{server.url}/a.tar", sha256="0" * 64)
    with pytest.raises(FetchError, match="it has 10240 bytes where 7 are due"):
        fetched(f"{server.url}/a.tar", expected=Version(7))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, PermissionError),
        (403, PermissionError),
        (407, PermissionError),
        (404, FileNotFoundError),
        (410, FileNotFoundError),
        (400, FetchError),
    ],
)
def test_a_refusal_is_an_error_at_once(server, status, kind):
    server.faults["a.tar"] = Fault(ALWAYS, status=status)
    with pytest.raises(kind, match=f"{server.url}/a.tar: {status} ") as caught:
        fetched(f"{server.url}/a.tar")
    assert isinstance(caught.value, FetchError)
    assert server.bodies("a.tar") == 1


def test_nobody_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match="each time: Connection refused"):
        fetched(f"http://127.0.0.1:{port}/a.tar")


def test_a_server_that_takes_calls_and_says_nothing_is_left():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchError, match=r"no answer in 0\.3 s"):
        fetched(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar")


def test_a_server_that_never_ends_its_head_is_left():
    def drip(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                call, _ = listener.accept()
                call.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(10):
                    call.sendall(b"X: 1\r\n")
                    time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        with pytest.raises(FetchError, match=r"each time: no answer in 0\.3 s"):
            fetched(f"http://127.0.0.1:{listener.getsockname()[1]}/a.tar")


@pytest.mark.parametrize("ranges", [True, False])
def test_the_version_is_asked_for_without_the_file(server, ranges):
    server.ranges = ranges
    found = version(f"{server.url}/a.tar", QUICK)
    assert found.bytes == len(DATA)
    assert found.mark == f'"{hash(DATA)}"'


def test_pauses_double_up_to_a_limit_and_differ(monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    retries = Retries(attempts=6, first_delay=1, max_delay=4, timeout=1)
    with pytest.raises(FetchError):
        fetched("http://127.0.0.1:1/a.tar", retries)
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(slept, (1, 2, 4, 4, 4), strict=True))
    assert len(set(slept)) == 5


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"timeout": 0}, {"first_delay": 2, "max_delay": 1}])
def test_retries_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Retries\(.*are wanted"):
        functools.partial(Retries, **wrong)()
