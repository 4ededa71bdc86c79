"""Steps on tensors that pretend to be a GPU's: their host neither copies to it nor asks it. Needs none."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blocks import convit, key, tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.train.evaluate import _sums
from blocks.train.readings import Readings
from blocks.train.step import init_state, make_step
from tests.objectives.ssl_table import TABLE, batch_of, objective_of
from tests.optim import table as optimizers


def devices(found) -> set[str]:
    return {x.device.type for x in tree_leaves(found) if isinstance(x, torch.Tensor)}


class Watching(TorchDispatchMode):
    """Notes operations from one kind of device to another; to ask a fake tensor for a number is an error by itself."""

    def __init__(self):
        super().__init__()
        self.crossing, self.waiting = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made, given = devices(result), devices((args, kwargs))
        if (
            given
            and made
            and given != made
            and not ("cuda" in given and made == {"cuda"} and "copy" not in str(function))
        ):
            self.crossing.append(str(function))
            if not (kwargs or {}).get("non_blocking"):
                self.waiting.append(str(function))
        return result


@pytest.fixture(autouse=True)
def _no_backward(monkeypatch):
    """A backward pass would want the GPU itself: gradients like their leaves take its place."""
    monkeypatch.setattr(torch.autograd, "grad", lambda outputs, inputs, *_, **__: tuple(map(torch.empty_like, inputs)))


def crossings(objective, optimizer, batch, **knobs):
    """What crosses in the second step of a donated state."""
    given = init_state(
        objective, optimizer, key(0), ema="ema_decay" in knobs, precision=knobs.get("precision", "float32")
    )
    with FakeTensorMode() as fake:
        state, batch = (tree.map(lambda t: fake.from_tensor(t).to("cuda"), x) for x in (given, batch))
        step = make_step(objective, optimizer, donate=True, **knobs)
        state, _ = step(state, batch)
        with Watching() as watching:
            step(state, batch)
    return watching.crossing


@pytest.mark.parametrize("name", TABLE)
def test_no_self_supervised_step_crosses(name):
    knobs = {"precision": "bfloat16", "clip_norm": 1.0, "ema_decay": 0.9}
    assert crossings(objective_of(name), adamw(1e-3), batch_of(name), **knobs) == []


def test_metrics_and_evaluation_cross_by_copies_that_do_not_wait_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", type("Event", (), {"record": lambda self: None}))
    with FakeTensorMode():
        logits, labels = torch.zeros(4, 7, device="cuda"), torch.zeros(4, dtype=torch.int64, device="cuda")
        readings = Readings(torch.device("cuda"), 1)
        with Watching() as watching:
            readings.put(1, {"loss": logits[0, 0]}, stop=False)
            _sums(logits, labels)
    assert watching.crossing == ["aten._to_copy.default"]
    assert watching.waiting == []


@pytest.mark.parametrize("row", optimizers.ROWS)
def test_no_optimizer_crosses(row):
    assert crossings(objective_of("simclr"), optimizers.make(row, 1e-3), batch_of("simclr")) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_no_supervised_step_with_schedules_drop_path_and_micro_batches_crosses(precision):
    tiny = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "num_heads": 2, "depth": 2, "num_classes": 5}
    objective = Supervised(convit(**tiny, local_up_to_layer=1, drop_path_rate=0.5), label_smoothing=0.1)
    optimizer = adamw(warmup_cosine(1e-3, 2, 10), weight_decay=warmup_cosine(0.1, 2, 10))
    batch = {"images": torch.zeros(8, 3, 16, 16), "labels": batch_of("simclr")["labels"]}
    knobs = {"precision": precision, "clip_norm": 1.0, "ema_decay": 0.9, "accumulate": 2}
    assert crossings(objective, optimizer, batch, **knobs) == []


def test_what_crosses_is_seen():
    with FakeTensorMode(), Watching() as watching:
        torch.tensor([1.0]).to("cuda")
        torch.zeros((), device="cuda") + torch.ones(())  # a CPU's scalar is an argument of the kernel
    assert len(watching.crossing) == 1
