"""All that a step computes is where its state is, and is not asked for: on a GPU either would make the host wait.

Shown without one: on tensors that have a device and no values.
"""

import attrs
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blocks import key
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipAdaptive
from blocks.optim.schedule import warmup_cosine
from blocks.train.step import init_state, make_step
from tests.objectives import table as supervised
from tests.objectives.ssl_table import TABLE, TRUNKS, batch_of, objective_of
from tests.optim import table as optimizers

ELSEWHERE = "meta"


class OnOneDevice(TorchDispatchMode):
    """An operation with tensors of two devices is an error here."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        found = {tensor.device.type for tensor in tensors}
        assert len(found) < 2, f"{func} of tensors on {found}"
        return out


class OfNoNumbers(TorchFunctionMode):
    """A tensor made of the host's numbers is an error here: they would be copied, and the host would wait."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        passes = func is torch.as_tensor and isinstance(args[0], torch.Tensor)
        assert passes or func not in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor), f"{func.__name__}()"
        return func(*args, **(kwargs or {}))


def step_elsewhere(objective, optimizer, batch, **knobs):
    knobs = {"clip_norm": 1.0, "ema_decay": 0.9, **knobs}
    with FakeTensorMode(allow_non_fake_inputs=True):  # a teacher's weights have values
        precision = knobs.get("precision", "float32")
        state = init_state(objective, optimizer, key(0, ELSEWHERE), ema=True, precision=precision)
        batch = {name: torch.empty_like(x, device=ELSEWHERE) for name, x in batch().items()}
        with OnOneDevice(), OfNoNumbers():
            state, metrics = make_step(objective, optimizer, donate=True, **knobs)(state, batch)
    assert {
        x.device.type for x in tree_leaves((attrs.asdict(state, recurse=False), metrics)) if isinstance(x, torch.Tensor)
    } == {ELSEWHERE}


@pytest.mark.parametrize("name", TABLE)
def test_self_supervised(name):
    step_elsewhere(objective_of(name), adamw(1e-3), lambda: batch_of(name))


@pytest.mark.parametrize("trunk", sorted(TRUNKS.keys() - {"convit"}))
@pytest.mark.parametrize("name", ["simclr", "ibot", "mae"])
def test_every_trunk(name, trunk):
    step_elsewhere(objective_of(name, trunk), adamw(1e-3), lambda: batch_of(name))


@pytest.mark.parametrize(
    "knobs", [{}, {"precision": "float16", "accumulate": 2}, {"clip_norm": None, "clip": ClipAdaptive(0.1)}], ids=str
)
@pytest.mark.parametrize("name", supervised.TABLE)
def test_supervised(name, knobs):
    optimizer = adamw(warmup_cosine(1e-3, 2, 10), weight_decay=warmup_cosine(0.1, 2, 10))
    step_elsewhere(supervised.TABLE[name].make(), optimizer, supervised.batch_of, **knobs)


@pytest.mark.parametrize("row", optimizers.ROWS)
def test_every_optimizer(row):
    step_elsewhere(objective_of("simclr"), optimizers.make(row, 1e-3), lambda: batch_of("simclr"))


class Careless:
    """An objective, and one thing of the host's."""

    def __init__(self, slip):
        self.own, self.slip = objective_of("simclr"), slip

    def init(self, key):
        return self.own.init(key)

    def loss(self, params, memory, batch, key):
        loss, memory, metrics = self.own.loss(params, memory, batch, key)
        return self.slip(loss), memory, metrics

    def settle_(self, params, memory, skip):
        return self.own.settle_(params, memory, skip)


@pytest.mark.parametrize(
    ("slip", "error"),
    [
        (lambda loss: loss * torch.from_numpy(np.float32([2.0]))[0], AssertionError),
        (lambda loss: loss * torch.tensor([2.0], device=loss.device)[0], AssertionError),
        (lambda loss: loss * loss.item(), DataDependentOutputException),
    ],
    ids=["a number on the host", "a copy", "a value"],
)
def test_a_slip_would_be_seen(slip, error):
    with pytest.raises(error):
        step_elsewhere(Careless(slip), adamw(1e-3), lambda: batch_of("simclr"))
