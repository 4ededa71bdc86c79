"""bench/gpu.py on the day of a GPU: what is not installed, or breaks the GPU's context, costs its own row alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """The script as a module, without what other libraries bring."""
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    return gpu


def test_ops_and_our_steps_want_no_other_library(tmp_path):
    without = "import sys; sys.modules.update(timm=None, lightly=None, liger_kernel=None); sys.path.insert(0, {!r});"
    given = ["gpu.py", "--device", "cpu", "--small", "--rounds", "2", "--out", str(tmp_path / "rows")]
    given += ["--only", "sinkhorn", "vit_small", "--forms", "plain", "ours", "timm"]
    code = without.format(str(BENCH)) + f"sys.argv = {given!r}; import gpu; gpu.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    op, step = map(json.loads, (tmp_path / "rows").read_text().splitlines())
    assert "plain" in op["milliseconds"]
    assert "ModuleNotFoundError" in op["skipped"]["lightly"]
    assert list(step["milliseconds"]) == ["ours"]
    assert "ModuleNotFoundError" in step["wrong"]["timm"]


def test_a_lost_context_takes_no_other_row_with_it(bench, tmp_path, monkeypatch):
    """The rows after the one that lost it are measured by a new process."""
    out, restarted = tmp_path / "rows", []

    def fails(peak):
        raise RuntimeError("an illegal memory access was encountered")

    class Gone(Exception):
        pass

    def become(program, arguments):
        restarted.append(arguments)
        raise Gone

    made = [
        ("ops", "good", lambda peak: {"milliseconds": {}, "wrong": {}}),
        ("ops", "bad", fails),
        ("ops", "last", fails),
    ]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out), "--skip", "0"])
    for name, instead in {
        "rows": lambda args: made,
        "roof": lambda device, small: {"bytes": 1.0},
        "hardware": lambda device: "a GPU",
        "lost": lambda: "illegal" in out.read_text(),
    }.items():
        monkeypatch.setattr(bench, name, instead)
    monkeypatch.setattr(bench.torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(bench.os, "execv", become)
    with pytest.raises(Gone):
        bench.main()
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == ["good", "bad"]
    assert restarted[0][-2:] == ["--skip", "2"]


def test_every_form_of_a_step_has_its_stage(bench):
    steps = sys.modules["gpu_steps"]
    batch = steps.batch_of("convit_small", 2, True, "cpu")
    forms = steps.makers("convit_small", batch, "float32", True)
    assert sorted(forms) == sorted(form for stage in steps.STAGES for form in stage)


def test_a_stage_that_failed_takes_no_other_stage_of_its_model_from_the_table(bench):
    import report_gpu

    good = {
        "section": "steps", "row": "vit_base", "batch": 8, "dtype": "bfloat16", "n": 5, "wrong": {}, "skipped": {},
        "milliseconds": {"ours": 2.0}, "share_of_roof": {"ours": 0.5}, "extra_megabytes": {"ours": 1e3},
        "images_per_second": {"ours": 4000.0}, "note": "",
    }  # fmt: skip
    bad = {"section": "steps", "row": "vit_base", "error": "OutOfMemoryError: no room"}
    shown = report_gpu.tables([good, bad])
    assert "4,000" in shown
    assert "- vit_base: OutOfMemoryError: no room" in shown
