"""A kernel runs on the GPU that its tensors are on, also where another one is the current."""

from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from blocks.ops import define
from blocks.ops.on_device import on_its_device


@pytest.fixture
def entered(monkeypatch):
    """The devices that were made the current one."""
    devices = []

    @contextmanager
    def device(which):
        devices.append(which)
        yield
        devices.append(None)

    monkeypatch.setattr(torch.cuda, "device", device)
    return devices


def second_gpus(*shape):
    with FakeTensorMode():
        return torch.empty(*shape, device="cuda:1")


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: ((), [x])], ids=["tensor", "list", "lists"])
def test_the_gpu_of_the_first_tensor_is_the_current_one(entered, wrap):
    found = on_its_device(lambda scale, x: (scale, list(entered)))(2.0, wrap(second_gpus(3)))
    assert found == (2.0, [torch.device("cuda:1")])
    assert entered[-1] is None


def test_on_a_cpu_and_without_tensors_nothing_is_asked(entered):
    assert on_its_device(lambda x: x + 1)(torch.ones(())) == 2
    assert on_its_device(lambda x, *, y: x + y)(1, y=2) == 3
    assert entered == []


def test_every_operator_of_ours_is_defined_so(monkeypatch):
    given = {}
    monkeypatch.setattr(define.LIBRARY, "define", lambda schema: None)
    monkeypatch.setattr(define.LIBRARY, "impl", lambda name, compute, key: given.update({name: compute}))
    monkeypatch.setattr(torch.library, "register_fake", lambda *args, **knobs: None)
    with pytest.raises(AttributeError):  # it is not really there
        define.define("some_name(Tensor x) -> Tensor", torch.relu, torch.relu)
    assert given["some_name"].__wrapped__ is torch.relu


@pytest.mark.parametrize(
    ("module", "name"),
    [("crop_resize", "crop_resize"), ("colors", "colors"), ("blur", "box_blurs"), ("last_pass", "last_pass")],
)
def test_so_are_launches_that_are_no_operators(module, name):
    pytest.importorskip("triton")
    kernels = __import__(f"blocks.ops.kernels.{module}", fromlist=[name])
    assert hasattr(getattr(kernels, name), "__wrapped__")
