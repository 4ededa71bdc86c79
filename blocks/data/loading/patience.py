"""Batches made in this process by a thread, which is left behind when one takes too long."""

import os
import queue
import threading
from concurrent.futures import Future
from typing import Any

Job = tuple[Any, Future] | None  # None: it ends


class Patient:
    """dataset[place], one at a time. Raises RuntimeError when that takes longer than `timeout` seconds.

    One thread makes them all, for each new one has OpenMP threads of its own. It ends with this object.
    """

    def __init__(self, dataset: Any, timeout: float):
        self.dataset, self.timeout = dataset, timeout
        self._process, self._jobs = 0, queue.SimpleQueue[Job]()

    def __getitem__(self, place: Any) -> Any:
        if self._process != os.getpid():  # a fork has no threads
            self._process, self._jobs = os.getpid(), queue.SimpleQueue()
            threading.Thread(target=_work, args=(self.dataset, self._jobs), daemon=True, name="batches").start()
        answer: Future = Future()
        self._jobs.put((place, answer))
        try:
            return answer.result(self.timeout)
        except TimeoutError:
            if answer.done():  # its own
                raise
        raise RuntimeError(
            f"no batch was made within {self.timeout:g} s: the storage hangs, or is slower than that; look at it, or "
            "give the loader a longer timeout"
        )

    def __del__(self):
        self._jobs.put(None)


def _work(dataset: Any, jobs: "queue.SimpleQueue[Job]") -> None:
    while (job := jobs.get()) is not None:
        place, answer = job
        try:
            answer.set_result(dataset[place])
        except BaseException as error:
            answer.set_exception(error)
        del job, answer  # or a batch would live until the next
