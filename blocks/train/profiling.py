"""Where a step's time goes: torch.profiler over a few steps of a run, which goes on as if nothing were."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

WARM, STEPS = 3, 5  # steps that are let pass at least, compilation among them; steps that are looked at
ROWS = 15


@contextmanager
def profiling(
    folder: Path, device: torch.device, say: Callable[[str], None], warm: int = WARM
) -> Iterator[Callable[[], None]]:
    """Inside, call what it yields after each step. `folder` gets trace.json.gz, for chrome://tracing or
    ui.perfetto.dev, and ops.txt, the operations that took most of the time, which is told too. The first `warm` steps,
    or more, are let pass.
    """
    on_gpu, warm = device.type == "cuda", max(warm, WARM)
    done = 0  # steps

    def write(profiler: Any) -> None:
        if done <= warm:
            return
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(folder / "trace.json.gz"))
        table = hottest(profiler.key_averages(), done - warm, on_gpu)
        (folder / "ops.txt").write_text(table)
        say(f"{table}the trace is {folder / 'trace.json.gz'}: open it in ui.perfetto.dev")

    schedule = torch.profiler.schedule(skip_first=warm - 1, wait=0, warmup=1, active=STEPS, repeat=1)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=kinds, schedule=schedule, on_trace_ready=write) as profiler:

        def step() -> None:
            nonlocal done
            done += 1
            profiler.step()

        yield step
    if done <= warm:
        say(f"nothing was profiled: the run was shorter than {warm + 1} steps")


def hottest(events: Any, steps: int, on_gpu: bool) -> str:
    """A table of the operations with most time of their own in so many steps; on a GPU of its kernels."""
    where = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    own = [event for event in events if (event.device_type != DeviceType.CPU) == on_gpu]  # else kernels count twice
    own = [event for event in own if not event.is_user_annotation and not event.key.startswith("ProfilerStep")]
    times = {event.key: (getattr(event, where) / 1e3, event.count) for event in own}
    whole = sum(spent for spent, _ in times.values()) or 1.0
    table = Table("operation", title=f"hottest operations of {steps} steps, {'GPU' if on_gpu else 'CPU'} time")
    for title in ("calls", "ms", "share"):
        table.add_column(title, justify="right")
    for name, (spent, calls) in sorted(times.items(), key=lambda row: -row[1][0])[:ROWS]:
        table.add_row(name[:60], f"{calls}", f"{spent:,.1f}", f"{spent / whole:.1%}")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()
