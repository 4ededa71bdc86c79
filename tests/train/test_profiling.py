"""--profile: a trace and the hottest operations, of a run that goes on as without."""

import gzip
import json

from blocks.train.options import RunOptions
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


def test_a_short_run_is_told_with_the_steps_it_had(tmp_path):
    profiled(tmp_path, epochs=2)
    assert "hottest operations of 3 steps" in (tmp_path / "profile" / "ops.txt").read_text()


def test_a_run_too_short_for_it_says_so(tmp_path, capsys):
    assert profiled(tmp_path, epochs=1).finished
    assert "nothing was profiled: the run was shorter than 4 steps" in capsys.readouterr().out
    assert not (tmp_path / "profile").exists()
