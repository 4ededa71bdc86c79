"""A headless Chromium, spoken to over its DevTools pipe: what a page logged, asked for, and looks like."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe")
PATIENCE_S = 60.0


def find():
    """The browser's path, None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One tab. Messages are JSON objects, each ended by a zero byte."""

    def __init__(self, read, write):
        self._read, self._write = read, write
        self._buffer, self._numbers, self._session = b"", itertools.count(1), {}
        self.events = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        """The result of a command; events that come before it are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda m: m.get("id") == number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def open(self, path, *, width=1280, height=900, dark=False):
        """Load a file of this machine, and wait until all of it is there."""
        size = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self("Page.navigate", url=Path(path).resolve().as_uri())
        if not self.named("Page.loadEventFired"):
            self._until(lambda m: m.get("method") == "Page.loadEventFired")

    def eval(self, expression):
        """The value of a JavaScript expression; of a promise, when it is kept."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def named(self, *methods):
        """The parameters of the events of these names so far."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def complaints(self):
        """What the console, the log and uncaught exceptions said."""
        return self.named("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")

    def requests(self):
        """The URLs that were asked for, data inside the page left out."""
        urls = [event["request"]["url"] for event in self.named("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def screenshot(self, path):
        """The whole page as a PNG."""
        found = self("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def _until(self, wanted):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
                assert ready, "the browser says nothing"
                self._buffer += os.read(self._read, 1 << 20) or b"\0"
            text, _, self._buffer = self._buffer.partition(b"\0")
            assert text, "the browser is gone"
            message = json.loads(text)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message


@contextmanager
def browser(program, profile) -> Iterator[Page]:
    """A page of a new browser, whose profile lies in a folder."""
    its_input, to_it = os.pipe()
    from_it, its_output = os.pipe()
    command = [program, *FLAGS, f"--user-data-dir={profile}"]
    # the browser reads from file 3 and writes to file 4
    shell = ["bash", "-c", f'exec "$@" 3<&{its_input} 4>&{its_output}', "bash", *command]
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen(shell, pass_fds=(its_input, its_output), start_new_session=True, **quiet)
    os.close(its_input)
    os.close(its_output)
    try:
        yield Page(from_it, to_it)
    finally:
        os.close(to_it)  # which ends it
        os.close(from_it)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
