"""What a shell command writes: pipe:ssh host cat train-000000.tar"""

import os
import selectors
import signal
import subprocess
import tempfile
from contextlib import suppress
from typing import IO

from blocks.data.storage.part import Part
from blocks.data.storage.retries import FetchError, Passing
from blocks.data.storage.source import READ, Pace, Version

NOT_RUN = (126, 127)  # the shell's status for a command that is no program, or is none here
TAIL = 200  # characters of stderr in an error


class PipeSource:
    """A command for the shell. What it writes is taken to be the same whenever it runs."""

    def __init__(self, name: str, timeout: float, expected: Version):
        self.name, self.timeout, self.expected = name, timeout, expected

    def version(self) -> Version:
        return Version()

    def append(self, part: Part) -> None:
        part.restart()
        command = self.name.removeprefix("pipe:")
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a group of its own, so that it ends with all that it started
            )
            try:
                self._copy(process.stdout, part)  # type: ignore[arg-type]
                status = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise Passing(f"it does not end, {self.timeout:g} s after its last byte") from None
            finally:
                _end(process)
            self._check(status, _tail(errors))

    def _copy(self, stdout: IO[bytes], part: Part) -> None:
        pace = Pace(self.timeout)
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            while True:
                if not ready.select(self.timeout):
                    raise Passing(f"no byte in {self.timeout:g} s, after {part.size}")
                data = os.read(stdout.fileno(), READ)
                if not data:
                    return
                part.write(data)
                pace.moved(len(data))

    def _check(self, status: int, errors: str) -> None:
        told = f"exit status {status}" + (f", {errors!r}" if errors else "")
        if status in NOT_RUN:
            raise FetchError(f"{self.name}: {told}; is its program here?")
        if status:
            raise Passing(told)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()  # type: ignore[union-attr]


def _tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4 * TAIL))
    return errors.read().decode("utf-8", "replace").strip()[-TAIL:]
