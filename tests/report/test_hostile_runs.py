"""Reports of runs that went wrong, or whose names are not letters."""

import json
import re

import pytest
import torch

from blocks.report import write_report
from blocks.report.numbers import duration
from blocks.report.outcome import course
from tests.report import tiny_runs


def remarks(page):
    """What a page says in place of pictures."""
    return re.findall(r'<p class="(?:warning|remark)">(.*?)</p>', page.read_text())


def test_a_run_that_diverged_is_said_to_and_nothing_is_drawn_of_its_weights(data, tmp_path):
    run = tiny_runs.write_run(tmp_path / "run", tiny_runs.convit(), data)
    file = next(run.glob("step-*.pt"))
    content = torch.load(file)
    content["state"] = {name: torch.full_like(leaf, float("nan")) for name, leaf in content["state"].items()}
    torch.save(content, file)
    page = write_report(run, say=lambda text: None)
    said = [text for text in remarks(page) if "Not shown" in text]
    assert any("hold NaN or infinity" in text and "the run diverged" in text for text in said)
    assert not any("failed with" in text for text in said)
    assert "classified right" not in page.read_text()


def test_epochs_that_took_no_time_are_told():
    record = tiny_runs.record(1) | {"seconds": None}
    assert ("images per second", "0") not in course([record]).rows
    assert ("training time", "0.0 s") in course([record]).rows


@pytest.mark.parametrize(
    ("seconds", "said"), [(59.94, "59.9 s"), (59.97, "1 min 0 s"), (119.7, "2 min 0 s"), (3599.9, "1 h 0 min")]
)
def test_no_minute_has_sixty_seconds(seconds, said):
    assert duration(seconds) == said


def test_a_reason_ends_with_one_full_stop(data, tmp_path):
    run = tiny_runs.write_run(tmp_path / "run", tiny_runs.convit(), data)
    file = next(run.glob("step-*.pt"))
    file.write_bytes(file.read_bytes()[:300])
    said = remarks(write_report(run, say=lambda text: None))
    assert any("is damaged" in text for text in said)
    assert not any(text.endswith("..") or len(text) > 400 for text in said)


def test_metrics_that_are_not_finite_and_lines_that_a_kill_cut_leave_a_page(data, tmp_path):
    run = tiny_runs.write_run(tmp_path / "run", tiny_runs.convit(), data)
    metrics = run / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines = [json.dumps(r | {"train_loss": None, "val_top1": None, "lr": None, "seconds": None}) for r in records]
    metrics.write_text("\n".join(lines) + '\n{"kind": "epo')
    said = remarks(write_report(run, say=lambda text: None))
    assert any("Not finite in the last epoch" in text for text in said)
    assert not any("failed with" in text for text in said)
