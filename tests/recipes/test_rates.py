"""The rates that recipes make of their flags."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from blocks.optim.schedule import ends

RECIPES = Path(__file__).parents[2] / "recipes"
WITH_A_LEAST_RATE = sorted(p.stem for p in RECIPES.glob("*.py") if "min_lr" in p.read_text())


@pytest.mark.parametrize("name", [name for name in WITH_A_LEAST_RATE if name != "finetune"])  # it wants weights first
def test_the_peak_is_the_highest_rate_of_a_tiny_batch_too(name, monkeypatch):
    """The peak shrinks with the batch, the rates at both ends do not."""
    names, found = runpy.run_path(str(RECIPES / f"{name}.py"), run_name="recipe"), []
    main = names["main"]

    def run(objective, optimizer, *_, **__):
        found.append(ends(optimizer.schedule))
        return SimpleNamespace(state=SimpleNamespace(params={}))

    monkeypatch.setitem(main.__globals__, "run", run)
    if name == "deit_distilled":
        monkeypatch.setitem(main.__globals__, "Distillation", lambda *_: None)
    main(names["Recipe"](**{**names["DIGITS"], "batch_size": 2, "lr": 1e-5, "min_lr": 1e-6, "workers": 0}))
    assert found
    for start, peak, end in found:
        assert max(start, end) <= peak
