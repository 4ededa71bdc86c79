"""What a run is made of."""

import attrs
import torch

from blocks.train.made import code_of, made_of


@attrs.define
class Part:
    rate: float
    inner: tuple = ()
    _hidden: int = 1
    found: int = attrs.field(init=False, default=2)


def test_blocks_tuples_and_dictionaries_are_told_by_what_they_hold():
    parts = {"mix": Part(0.5, (Part(0.25), "word")), "knobs": {"clip": None, "frozen": [3]}}
    assert made_of(**parts) == {
        "mix": "Part",
        "mix.rate": 0.5,
        "mix.inner": 2,
        "mix.inner.0": "Part",
        "mix.inner.0.rate": 0.25,
        "mix.inner.0.inner": 0,
        "mix.inner.1": "word",
        "knobs": 2,
        "knobs.clip": None,
        "knobs.frozen": 1,
        "knobs.frozen.0": 3,
    }


def test_of_anything_else_the_class_or_the_function_is_told():
    found = made_of(a=torch.nn.Linear(2, 2), b=torch.zeros(3), c=Part, d=code_of)
    assert found == {"a": "Linear", "b": "Tensor", "c": "Part", "d": "code_of"}


def test_a_recipe_without_a_file_has_no_code(tmp_path):
    assert code_of(None) == code_of(tmp_path / "gone.py") == {}
