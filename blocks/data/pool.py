"""Worker processes for work that is done once: scanning tars, checking images."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

import torch

_fn: Callable[[Any], Any]  # of a worker process


def process_map(
    fn: Callable[[Any], Any], items: Iterable[Any], workers: int, chunk: int = 1
) -> Generator[Any, None, None]:
    """fn over items, in order, in `workers` processes (0: here); only a few chunks are on their way at a time."""
    if workers == 0:
        yield from map(fn, items)
        return
    source = iter(items)
    chunks = iter(lambda: list(islice(source, chunk)), [])
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(), fn))
    try:
        waiting = deque(pool.submit(_map_chunk, c) for c in islice(chunks, 3 * workers))
        while waiting:
            results = waiting.popleft().result()
            waiting.extend(pool.submit(_map_chunk, c) for c in islice(chunks, 1))
            yield from results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int, fn: Callable[[Any], Any]) -> None:
    global _fn  # handed over once: it may hold a whole data set
    _fn = fn
    torch.set_num_threads(1)  # a fork has none of its parent's threads, and OpenMP would wait for them for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process when its parent is killed: a pool's workers would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _map_chunk(items: list[Any]) -> list[Any]:
    return [_fn(item) for item in items]
