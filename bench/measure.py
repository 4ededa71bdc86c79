"""Side-by-side measurement: interleaved medians, and the bytes that a computation keeps for its backward pass."""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import torch


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[Callable], float] | None = None
) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` of each: after one untimed call they take turns, so that noise hits all alike.

    The clock takes a function's time; by default it is the host's, around a call and a wait for the device.
    """
    clock = clock or _seconds
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds):
        for name in order(functions, turn):
            seconds[name].append(clock(functions[name]))
    return seconds


def order(names: Iterable[str], turn: int) -> list[str]:
    """The names shuffled, each turn anew and the same in all processes.

    Forth and back would not be fair: the first and the last would follow themselves every other turn and find their
    own data in the cache, those between never.
    """
    names = list(names)
    return random.Random(turn).sample(names, len(names))


def _seconds(function: Callable[[], object]) -> float:
    _synchronize()
    start = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - start


def on_device(function: Callable[[], object], least: float = 2e-3) -> float:
    """Seconds of a call by the GPU's own clock, a mean over as many calls as `least` seconds take."""
    once = _between_events(function, 1)
    return once if once >= least else _between_events(function, max(2, int(least / once)))


def _between_events(function: Callable[[], object], calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Median of the rounds' ratios, and their quartiles: (ratio, low, high).

    Of each round, since both take their turns in the same minute: what slows the machine for a while slows both.
    """
    rounds = [n / d for n, d in zip(numerator, denominator, strict=True)]
    low, middle, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else rounds * 3
    return middle, low, high


def kept_bytes(function: Callable[[], object], besides: Iterable[torch.Tensor] = ()) -> int:
    """Bytes that autograd keeps for the backward of function(), each storage once, without the tensors `besides`."""
    storages: dict[int, torch.UntypedStorage] = {}  # holding the storage keeps its address from being used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    for tensor in besides:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    del result
    return sum(storage.nbytes() for storage in storages.values())


def hardware(device: str | torch.device = "cpu") -> str:
    """One line: device, threads and versions."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_processor()}, {torch.get_num_threads()} threads of {os.cpu_count()}"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_bytes(function: Callable[[], object], device: str) -> int:
    """The most bytes that a call has allocated at once."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        function()
    found = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(found, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most
