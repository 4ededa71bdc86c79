"""A whole step as one graph: the eager step's numbers, no break, no question to the device."""

import attrs
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blocks import convit, key, tree, vit
from blocks.layers.heads import ProjectionMlp
from blocks.objectives.moco import MoCo
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipEach
from blocks.optim.lion import lion
from blocks.optim.schedule import warmup_cosine
from blocks.optim.sgd import sgd
from blocks.train import step as steps
from blocks.train.peers import Peers
from blocks.train.step import init_state, make_step, whole_of
from blocks.train.whole import WholeStep
from tests.train import small_problem
from tests.train.small_problem import assert_close, same
from tests.train.test_compiled import NO_COMPILER

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3}
CLOSE = {"atol": 1e-6, "rtol": 1e-5}  # two orders of the same sums in float32
RATE = warmup_cosine(1e-2, 2, 20, start=1e-3)


def supervised():
    return Supervised(convit(**TINY, local_up_to_layer=1, num_classes=5), 0.1)


def moco():
    return MoCo(vit(**TINY, head=ProjectionMlp(16, 16, 4)), queue_size=12, dim=4)


def batch_of(objective, seed=0, size=4, device=None):
    images = torch.randn(size, 2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).to(device)
    if isinstance(objective, MoCo):
        return {"crops.0": images, "index": torch.arange(size, device=device)}
    labels = torch.arange(size, device=device) % 5
    return {"images": images[:, 0], "labels": labels, "index": torch.arange(size, device=device)}


def whole(step, backend="eager"):
    """The step as one graph by a backend of torch.compile."""
    return attrs.evolve(step, whole=whole_of(step, "step", backend))


@pytest.mark.parametrize("objective", [supervised(), moco()], ids=["supervised", "moco"])
def test_one_graph_gives_the_eager_numbers_with_clip_average_drop_path_and_queue(objective):
    optimizer = adamw(RATE)
    first = init_state(objective, optimizer, key(3), ema=True)
    eager = make_step(objective, optimizer, ema_decay=0.9, clip_norm=0.5)
    step, random_state, untouched = whole(eager, "aot_eager"), torch.get_rng_state(), tree.clone(first)
    state, plain = first, first
    torch._dynamo.utils.counters.clear()
    for number in range(4):  # MoCo's queue of 12 goes round
        state, metrics = step(state, batch_of(objective, number))
        plain, expected = eager(plain, batch_of(objective, number))
        assert_close(metrics, expected, **CLOSE)
        assert_close(state, plain, **CLOSE)
    assert same(first, untouched)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(step.whole.traces) == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize(
    ("optimizer", "knobs"),
    [(sgd(RATE), {"accumulate": 2, "clip": ClipEach(0.05)}), (lion(RATE), {"precision": "float16"})],
    ids=["sgd, accumulated, clipped", "lion, float16"],
)
def test_a_traced_step_is_the_same_operations(optimizer, knobs):
    objective, _, _ = small_problem.setup()
    scaled = {"precision": knobs["precision"]} if "precision" in knobs else {}
    first = init_state(objective, optimizer, key(3), **scaled)
    eager = make_step(objective, optimizer, **knobs)
    step, state, plain = whole(eager), first, first
    for number in range(2):
        state, metrics = step(state, small_problem.batch_of(seed=number))
        plain, expected = eager(plain, small_problem.batch_of(seed=number))
        assert_close(metrics, expected, **CLOSE)
        assert_close(state, plain, **CLOSE)


def test_a_donated_state_is_updated_where_it_is_and_what_is_not_finite_is_skipped():
    objective, optimizer, first = small_problem.setup()
    step = whole(make_step(objective, optimizer, ema_decay=0.9, donate=True))
    places = {name: leaf.data_ptr() for name, leaf in tree.flatten(first.params).items()}
    state, _ = step(first, small_problem.batch_of())
    before = tree.clone(state)
    spoilt = small_problem.batch_of()
    spoilt["images"] = spoilt["images"] * float("nan")
    state, metrics = step(state, spoilt)
    assert int(metrics["skipped"]) == int(state.skipped) == 1
    for part in ("params", "optimizer", "ema", "memory"):
        assert same(getattr(state, part), getattr(before, part))
    assert {name: leaf.data_ptr() for name, leaf in tree.flatten(state.params).items()} == places


def test_to_put_a_skip_down_to_params_leaves_nothing_with_the_graph():
    objective, optimizer, state = small_problem.setup()
    step = whole(make_step(objective, optimizer, ema_decay=0.9, donate=True))
    batch = tree.map(lambda x: x * torch.nan if x.is_floating_point() else x, small_problem.batch_of())
    state, metrics = step(state, batch)
    assert int(metrics["skipped"]) == 1
    assert step.broken(state, batch)
    assert step.gradient.peers.kept is None


def test_another_shape_of_batch_is_another_graph():
    objective, optimizer, first = small_problem.setup()
    eager = make_step(objective, optimizer, ema_decay=0.9)
    step = whole(eager)
    for size in (8, 6, 8):
        found, expected = step(first, small_problem.batch_of(size)), eager(first, small_problem.batch_of(size))
        assert_close(found[0], expected[0], **CLOSE)
    assert len(step.whole.traces) == 2


def test_a_step_that_asks_the_device_for_a_number_cannot_be_traced():
    @attrs.frozen
    class Asking(Supervised):
        def loss(self, params, memory, batch, key):
            loss, memory, metrics = super().loss(params, memory, batch, key)
            return loss * loss.detach().item(), memory, metrics

    objective, optimizer, first = small_problem.setup(objective=Asking(small_problem.net()))
    with pytest.raises(ValueError, match=r"asks the device for a number, by item\(\)"):
        whole(make_step(objective, optimizer, ema_decay=0.9))(first, small_problem.batch_of())


def test_a_schedule_of_ones_own_is_traced_where_it_keeps_tensors():
    objective, _, first = small_problem.setup()
    batch = small_problem.batch_of()
    with pytest.raises(ValueError, match=r"asks the device for a number, .* or if, and a graph cannot wait"):
        whole(make_step(objective, adamw(lambda step: 1e-2 if step < 2 else 1e-3), ema_decay=0.9))(first, batch)
    eager = make_step(objective, adamw(lambda step: 1e-2 * 0.9**step), ema_decay=0.9)
    step, state = whole(eager), first
    for _ in range(3):
        (state, metrics), (_, expected) = step(state, batch), eager(state, batch)
        assert_close(metrics, expected, **CLOSE)


def _tensors(found):
    return [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]


class Watching(TorchDispatchMode):
    """Notes what is copied from the host. "meta" tensors stand for a GPU's; to ask for their numbers is an error."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(result)
        if any(x.is_cpu for x in given) and any(x.is_meta for x in made) and "copy" in str(function):
            self.found.append(str(function))
        return result


@pytest.mark.parametrize("objective", [supervised(), moco()], ids=["supervised", "moco"])
def test_a_steady_step_neither_asks_the_device_nor_copies_to_it(objective):
    optimizer = lion(RATE)  # torch's fused AdamW has no form without numbers
    state = tree.to(init_state(objective, optimizer, key(3), ema=True), "meta")
    step = make_step(objective, optimizer, ema_decay=0.9, clip_norm=0.5, donate=True)
    batch = batch_of(objective, device="meta")
    with Watching() as watching:
        state, _ = step(state, batch)
    assert not watching.found


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_among_several_processes_the_loss_is_compiled_instead(monkeypatch):
    monkeypatch.setattr(steps.Peers, "of_world", staticmethod(lambda: Peers(0, 2)))
    objective, optimizer, _ = small_problem.setup()
    step = make_step(objective, optimizer, compile="step")
    assert step.whole is None
    assert step.gradient.loss is not objective.loss


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile needs a C++ compiler, and there is none")
def test_inductor_compiles_the_whole_step():
    objective, optimizer = Supervised(small_problem.net()), adamw(RATE)
    first = init_state(objective, optimizer, key(3))
    step, eager = (make_step(objective, optimizer, compile=compile) for compile in ("step", False))
    assert isinstance(step.whole, WholeStep)
    state, plain = first, first
    for number in range(2):
        state, metrics = step(state, small_problem.batch_of(seed=number))
        plain, expected = eager(plain, small_problem.batch_of(seed=number))
        assert_close(metrics, expected, **CLOSE)
        assert_close(state, plain, **CLOSE)
