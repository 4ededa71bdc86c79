"""Which implementation of an op is chosen."""

import pytest
import torch

from blocks.ops.choose import choose

HERE = torch.zeros(1)


@pytest.mark.parametrize("impl", ["plain", "torch"])
def test_what_is_asked_for_is_taken(impl):
    assert choose(impl, HERE, "odd sizes") == impl


def test_on_a_cpu_the_fast_form_of_pytorch_is_taken(monkeypatch):
    assert choose("auto", HERE) == "torch"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("auto", HERE) == "torch"


def test_a_kernel_that_is_asked_for_runs_by_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("triton", HERE) == "triton"


def test_a_kernel_that_cannot_run_is_an_error_with_the_reason(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="tensors are on cpu"):
        choose("triton", HERE)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match="head_dim 7 is not"):
        choose("triton", HERE, "head_dim 7 is not a multiple of 16")


def test_an_unknown_one_is_an_error():
    with pytest.raises(ValueError, match="impl 'cuda' is not known"):
        choose("cuda", HERE)
