"""--profile: a trace and the hottest operations, of a run that goes on as without."""

import gzip
import json
import re

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent

from blocks.train.options import RunOptions
from blocks.train.profiling import hottest, profiling
from tests.train.small_problem import same
from tests.train.tiny import train


def profiled(folder, **knobs):
    return train(None, options=RunOptions(out=str(folder), profile=True, report=False, seed=3), seed=None, **knobs)


def test_a_trace_and_a_short_table_are_written_and_the_run_is_as_without(tmp_path, capsys):
    result = profiled(tmp_path / "a")
    assert same(result.state, train(tmp_path / "b").state)
    trace = json.loads(gzip.decompress((tmp_path / "a" / "profile" / "trace.json.gz").read_bytes()))
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"aten::mm", "ProfilerStep#7"} <= names
    assert "ProfilerStep#2" not in names
    table = (tmp_path / "a" / "profile" / "ops.txt").read_text()
    assert "hottest operations of 5 steps, CPU time" in table
    assert "aten::" in table
    assert len(table.splitlines()) < 25
    text = capsys.readouterr().out
    assert table in text
    assert "trace.json.gz: open it in ui.perfetto.dev" in text


def events_of(kernel):
    """An operation that starts a kernel of 1 ms, and that kernel, as torch.profiler averages them on a GPU."""
    about = {"device_index": 0, "stack": [], "input_shapes": [], "use_device": "cuda"}
    operation = FunctionEvent(1, "aten::mm", 1, 0, 100, device_type=DeviceType.CPU, **about)
    operation.append_kernel(kernel, 0, 1000)
    events = [operation, FunctionEvent(2, kernel, 7, 50, 1050, device_type=DeviceType.CUDA, **about)]
    events = EventList(events, use_device="cuda", profile_memory=False)
    events._build_tree()
    return events.key_averages()


def test_on_a_gpu_a_kernel_counts_once_and_the_operation_that_starts_it_not_again():
    table = hottest(events_of("a_gemm"), 1, on_gpu=True)
    assert re.search(r"a_gemm\W+1\W+1\.0\W+100\.0%", table)
    assert "aten::mm" not in table


def test_what_warms_up_is_let_pass(tmp_path):
    said = []
    with profiling(tmp_path, torch.device("cpu"), said.append, warm=6) as step:
        for _ in range(8):
            torch.ones(2, 2) @ torch.ones(2, 2)
            step()
    assert "hottest operations of 2 steps" in said[0]


def test_a_short_run_is_told_with_the_steps_it_had(tmp_path):
    profiled(tmp_path, epochs=2)
    assert "hottest operations of 3 steps" in (tmp_path / "profile" / "ops.txt").read_text()


def test_a_run_too_short_for_it_says_so(tmp_path, capsys):
    assert profiled(tmp_path, epochs=1).finished
    assert "nothing was profiled: the run was shorter than 4 steps" in capsys.readouterr().out
    assert not (tmp_path / "profile").exists()
