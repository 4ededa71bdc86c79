"""A web server on the loopback that does, once or always, what servers should not do."""

import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs

ALWAYS = 1000


@attrs.define
class Fault:
    """What happens to the first `times` answers of one path; one field is set."""

    times: int = 1
    status: int = 200
    cut_after: int | None = None  # bytes of the body, then the connection ends
    silent: float = 0.0  # seconds before the answer
    stall: float = 0.0  # seconds before the body
    trickle: float = 0.0  # seconds after each byte
    length: int | None = None  # instead of the right Content-Length
    garbage: bool = False
    ranged: bool = True  # with range requests


@attrs.define
class Server:
    """Files by path, the faults of some, and the requests that came."""

    files: dict[str, bytes] = attrs.field(factory=dict)
    faults: dict[str, Fault] = attrs.field(factory=dict)
    ranges: bool = True
    etags: bool = True
    lengths: bool = True
    types: dict[str, str] = attrs.field(factory=dict)  # Content-Type by path
    asked: list[tuple[str, str]] = attrs.field(factory=list)  # (path, Range)
    sent: Counter = attrs.field(factory=Counter)  # bytes by path
    url: str = ""

    def bodies(self, path: str) -> int:
        """How often a file was asked for, not counting the question for its version."""
        return sum(asked == path and wanted != "bytes=0-0" for asked, wanted in self.asked)


@contextmanager
def serving(files: dict[str, bytes], **options) -> Iterator[Server]:
    server = Server(files, **options)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as running:
        running.daemon_threads = True
        server.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        running.shutdown()


def _handler(server: Server) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):
                self.answer()

        def answer(self) -> None:
            path, wanted = self.path.partition("?")[0].lstrip("/"), self.headers.get("Range", "")
            server.asked.append((path, wanted))
            fault = self.fault(path, wanted)
            time.sleep(fault.silent)
            if path not in server.files or fault.status != 200:
                self.send_error(fault.status if fault.status != 200 else 404)
                return
            data = server.files[path]
            start = self.start(data, wanted) if server.ranges and fault.ranged else 0
            self.head(path, data, start, wanted, fault)
            self.body(path, b"x" * len(data) if fault.garbage else data, start, wanted, fault)

        def fault(self, path: str, wanted: str) -> Fault:
            fault = server.faults.get(path, Fault(0))
            if fault.times == 0 or wanted == "bytes=0-0":
                return Fault(0)
            fault.times -= 1
            return fault

        def start(self, data: bytes, wanted: str) -> int:
            if self.headers.get("If-Range", self.etag(data)) != self.etag(data):
                return 0
            return int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0

        def etag(self, data: bytes) -> str:
            return f'"{hash(data)}"'

        def head(self, path: str, data: bytes, start: int, wanted: str, fault: Fault) -> None:
            partial = wanted and server.ranges and fault.ranged and (start or wanted == "bytes=0-0")
            self.send_response(206 if partial else 200)
            stop = 1 if partial and wanted == "bytes=0-0" else len(data)
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            if server.lengths:
                self.send_header("Content-Length", str(stop - start if fault.length is None else fault.length))
            if server.etags:
                self.send_header("ETag", self.etag(data))
            if path in server.types:
                self.send_header("Content-Type", server.types[path])
            self.end_headers()

        def body(self, path: str, data: bytes, start: int, wanted: str, fault: Fault) -> None:
            time.sleep(fault.stall)
            stop = 1 if wanted == "bytes=0-0" and server.ranges else len(data)
            data = data[start:stop]
            data = data if fault.cut_after is None else data[: fault.cut_after]
            step = 1 if fault.trickle else max(len(data), 1)
            for i in range(0, len(data), step):
                server.sent[path] += step
                self.wfile.write(data[i : i + step])
                time.sleep(fault.trickle)

        def log_message(self, *_) -> None:
            pass

    return Handler
