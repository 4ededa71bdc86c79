"""The results in README and docs are what bench/report.py makes of bench/results: nothing is typed by hand."""

from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
# read by their first word, or, what a compiler says of GPSA, by tests/ops/test_room.py
NOT_BY_NAME = "learning-", "pretraining-", "gpu-", "gpsa-compiled"


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import report

    return report.pages()


def test_the_pages_hold_what_the_files_say(pages):
    assert {page.name for page in pages} == {"README.md", "results.md"}
    for page, text in pages.items():
        assert page.read_text() == text, f"{page.name}: run python bench/report.py"


def test_no_file_of_results_is_left_out():
    programs = "".join(path.read_text() for path in BENCH.glob("report*.py"))
    named = (path.name for path in BENCH.glob("results/*") if not path.name.startswith(NOT_BY_NAME))
    assert [name for name in named if name not in programs] == []
