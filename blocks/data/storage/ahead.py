"""Shards that are fetched while others are still read."""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

FETCHES = 2  # at a time in a process, whatever the number of readers
READY = 4  # shards fetched and not yet read: more would drive those being read out of a small cache


@functools.lru_cache(maxsize=1)
def _slots(process: int) -> threading.Semaphore:
    """A fork has its own: the parent's may be taken by threads that are not here."""
    return threading.Semaphore(FETCHES)


class Ahead:
    """Calls fetch(number) of shards in daemon threads, which live while there is something to fetch.

    It belongs to one process: a fork makes its own.
    """

    def __init__(self, fetch: Callable[[int], object]):
        self.process = os.getpid()
        self._fetch = fetch
        self._lock = threading.Lock()
        self._wanted: deque[int] = deque()
        self._results: dict[int, Future] = {}
        self._threads, self._busy = 0, 0
        self._closed = False

    def want(self, numbers: Iterable[int]) -> None:
        """These shards are next, in this order; what was wanted before and has not begun is not any more."""
        numbers = list(numbers)
        with self._lock:
            unread = {number for number, result in self._results.items() if result.done()} - set(numbers)
            for number in unread:
                del self._results[number]
            self._closed = False
            self._wanted = deque(number for number in numbers if number not in self._results)
            self._start()

    def wait_for(self, number: int) -> None:
        """Return when this shard is fetched, if it was wanted. Raises what its fetch raised."""
        with self._lock:
            result = self._results.pop(number, None)
            waits = number in self._wanted
            if waits:
                self._wanted.remove(number)
            self._start()
        if result is not None:
            result.result()
        elif waits:
            self._fetch(number)

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True  # without the lock: this may run in a garbage collection, or in a fork

    def _start(self) -> None:
        while self._threads < min(FETCHES, self._busy + len(self._wanted)) and self._unread() < READY:
            self._threads += 1
            threading.Thread(target=self._work, daemon=True, name="shards ahead").start()

    def _unread(self) -> int:
        return sum(result.done() for result in self._results.values())

    def _work(self) -> None:
        while (job := self._next()) is not None:
            number, result = job
            with _slots(self.process):
                try:
                    self._fetch(number)
                except BaseException as error:
                    result.set_exception(error)
                else:
                    result.set_result(None)
            with self._lock:
                self._busy -= 1

    def _next(self) -> tuple[int, Future] | None:
        with self._lock:
            if self._closed or not self._wanted or self._unread() >= READY:
                self._threads -= 1
                return None
            self._busy += 1
            number = self._wanted.popleft()
            self._results[number] = Future()
            return number, self._results[number]
