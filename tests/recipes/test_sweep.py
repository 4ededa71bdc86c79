"""The sweep of learning rates."""

import runpy
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "recipes" / "lr_sweep.py"


@pytest.mark.parametrize("bounds", [{"lr_min": 0.0}, {"lr_min": -1.0}, {"lr_min": 0.1, "lr_max": 0.01}])
def test_rates_without_a_logarithm_are_refused_before_anything_is_trained(bounds):
    names = runpy.run_path(str(PATH), run_name="recipe")
    with pytest.raises(ValueError, match=r"--lr-min .* is not above 0 and at most --lr-max"):
        names["main"](names["Recipe"](**bounds))
