"""What every self-supervised objective promises, for every one there is, on every kind of trunk."""

import importlib
import pkgutil

import attrs
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import blocks.objectives
from blocks import key, tree, vit
from blocks.objectives.prototypes import usage
from blocks.objectives.self_supervised import SelfSupervised
from blocks.optim.adamw import adamw
from blocks.optim.sgd import sgd
from blocks.runs import checkpoint
from blocks.train.step import init_state, make_step
from tests.objectives.ssl_table import DROPS, TABLE, TINY, TRUNKS, batch_of, objective_of

every_objective = pytest.mark.parametrize("name", TABLE)
every_trunk = pytest.mark.parametrize("trunk", TRUNKS)


def start(name, trunk="convit", seed=0):
    objective = objective_of(name, trunk)
    params = tree.map(lambda p: 3 * p, objective.fresh(key(seed)))
    return objective, params, objective.remember(params)


def same(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def form(node):
    return {name: (leaf.shape, leaf.dtype) for name, leaf in tree.flatten(node).items()}


def settled(objective, params, memory, batch, skip=None):
    """(params, memory) after one loss and its settling, on copies; params have moved a little before."""
    params, memory = tree.map(lambda p: p + 0.01, params), tree.clone(memory)
    _, noted, _ = objective.loss(params, memory, batch, key(1))
    params = tree.clone(params)
    return params, *objective.settle_(params, noted, skip)


def test_no_objective_is_missing_from_the_table():
    modules = [
        importlib.import_module(m.name) for m in pkgutil.walk_packages(blocks.objectives.__path__, "blocks.objectives.")
    ]
    found = {v for m in modules for v in vars(m).values() if attrs.has(v) and hasattr(v, "settle_")}
    assert found - {SelfSupervised} == {type(objective_of(name)) for name in TABLE}


@every_objective
def test_a_start_follows_from_its_key(name):
    first, again, other = (objective_of(name).init(key(seed)) for seed in (0, 0, 1))
    assert all(map(same, first, again))
    assert not same(first[0], other[0])


@every_objective
def test_memory_belongs_to_the_params_that_it_remembers_and_shares_nothing_with_them(name):
    _, params, memory = start(name)
    assert memory["step"] == 0
    teacher = tree.flatten(memory.get("teacher", {}))
    flat = tree.flatten(params)
    assert all(torch.equal(leaf, flat[name]) for name, leaf in teacher.items())
    places = {leaf.data_ptr() for leaf in tree.leaves(params)}
    assert not any(leaf.data_ptr() in places for leaf in tree.leaves(memory))


class NoWaiting(TorchFunctionMode):
    """Refuses that for which the host would wait for a GPU: a tensor's numbers, and places that a list names."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        places = args[1] if func is Tensor.__getitem__ else ()
        assert not any(isinstance(place, list) for place in (places if isinstance(places, tuple) else (places,)))
        assert func not in (Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.nonzero)
        return func(*args, **(kwargs or {}))


@every_objective
def test_nothing_waits_for_a_gpu(name):
    objective, params, memory = start(name, "vit")
    params, batch = tree.map(lambda p: p.detach().requires_grad_(), params), batch_of(name)
    with NoWaiting():
        loss, memory, _ = objective.loss(params, memory, batch, key(1))
        torch.autograd.grad(loss, tree.leaves(params), allow_unused=True)
        objective.settle_(tree.map(Tensor.detach, params), memory)


@every_objective
def test_all_it_makes_lies_where_its_params_do(name):
    """On the meta device, where a tensor that was made elsewhere would be an error, or show."""
    objective = objective_of(name)
    params, memory = objective.init(key(0, device="meta"))
    batch = {name: value.to("meta") for name, value in batch_of(name).items()}
    loss, noted, metrics = objective.loss(params, memory, batch, key(1, device="meta"))
    notes = tree.clone(noted)["notes"] if "notes" in noted else {}
    after, settled = objective.settle_(params, noted, torch.tensor(False, device="meta"))
    found = [loss, *metrics.values(), *settled.values(), *tree.leaves({"m": memory, "n": notes, "a": after})]
    assert {leaf.device.type for leaf in found} == {"meta"}


@every_objective
def test_the_loss_is_a_function_of_its_arguments_and_changes_none(name):
    objective, params, memory = start(name)
    batch, state = batch_of(name), torch.random.get_rng_state()
    before = tree.clone({"params": params, "memory": memory, "batch": batch})
    first = objective.loss(params, memory, batch, key(1))
    again = objective.loss(params, memory, batch, key(1))
    assert torch.equal(first[0], again[0])
    assert same(first[1], again[1])
    assert same(first[2], again[2])
    assert same(before, {"params": params, "memory": memory, "batch": batch})
    assert torch.equal(state, torch.random.get_rng_state())


@every_objective
def test_it_draws_with_a_key_alone(name):
    objective, params, memory = start(name)
    losses = [objective.loss(params, memory, batch_of(name), k)[0] for k in (None, None, key(1), key(2))]
    assert losses[0] == losses[1]
    assert len(set(map(float, losses))) == 3
    assert objective.draws


@every_objective
def test_a_batch_without_index_counts_its_samples(name):
    objective, params, memory = start(name)
    without = {n: t for n, t in batch_of(name).items() if n != "index"}
    counted = without | {"index": torch.arange(len(without["crops.0"]))}
    losses = [objective.loss(params, memory, batch, key(1))[0] for batch in (without, counted)]
    assert losses[0] == losses[1]


@every_objective
def test_without_a_key_nothing_is_dropped(name):
    bodies = vit(**TINY), vit(**TINY, **DROPS)
    still, dropping = (TABLE[name].make(body) for body in bodies)
    params = tree.map(lambda p: 3 * p, still.fresh(key(0)))
    memory, batch = still.remember(params), batch_of(name)
    for a_key in (None, key(1)):
        losses = [objective.loss(params, memory, batch, a_key)[0] for objective in (still, dropping)]
        assert (losses[0] == losses[1]) == (a_key is None)


@every_objective
@every_trunk
def test_every_param_has_a_gradient(name, trunk):
    objective, params, memory = start(name, trunk)
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    flat = tree.flatten(leaves)
    found = objective.outcome(leaves, memory, batch_of(name), None)
    rest = [found.features, *found.metrics.values(), *tree.leaves(found.memory)]
    assert not any(leaf.requires_grad for leaf in rest)  # else a graph would be kept for a log
    grads = torch.autograd.grad(found.loss, list(flat.values()), allow_unused=True, materialize_grads=True)
    without = {leaf for leaf, grad in zip(flat, grads, strict=True) if not grad.any()}
    assert {leaf.rpartition(".")[0].rpartition(".")[2] for leaf in without} <= {"pos_proj"}  # cancels in the softmax


@every_objective
def test_an_outcomes_features_are_the_first_crops(name):
    objective, params, memory = start(name)
    batch = batch_of(name)
    others = {n: 2 * x if n.startswith("crops") else x for n, x in batch.items()}
    others["crops.0"][:, 0] = batch["crops.0"][:, 0]
    first, same_first, doubled = (
        objective.outcome(params, memory, b, None).features
        for b in (batch, others, {**batch, "crops.0": 2 * batch["crops.0"]})
    )
    assert first.shape == (8, 8)
    torch.testing.assert_close(same_first, first)
    assert not torch.isclose(doubled, first).all(1).any()


@every_objective
def test_memory_keeps_its_form_and_notes_are_taken_out(name):
    objective, params, memory = start(name)
    batch = batch_of(name)
    _, noted, _ = objective.loss(params, memory, batch, key(1))
    assert form({n: node for n, node in noted.items() if n != "notes"}) == form(memory)
    _, after, metrics = settled(objective, params, memory, batch)
    assert form(after) == form(memory)
    assert after["step"] == 1
    assert all(value.shape == () for value in metrics.values())
    carried = {n: node for n, node in memory.items() if n != "step"}
    assert not carried or not same(carried, {n: node for n, node in after.items() if n != "step"})


@every_objective
def test_a_skipped_settling_changes_no_bit_and_a_kept_one_is_one_without_skip(name):
    objective, params, memory = start(name)
    batch = batch_of(name)
    _, after, _ = settled(objective, params, memory, batch, torch.tensor(True))
    assert same(after, memory)
    moved = tree.map(lambda p: p + 0.01, params)
    assert same(settled(objective, params, memory, batch, torch.tensor(True))[0], moved)
    plain, kept = (settled(objective, params, memory, batch, skip) for skip in (None, torch.tensor(False)))
    assert all(map(same, plain, kept))


@every_objective
def test_nan_leaves_no_trace_in_what_is_skipped(name):
    """A step is skipped because something is not finite: memory must not mix it in, times 0 or not."""
    objective, params, memory = start(name)
    batch = {n: x * torch.nan if n.startswith("crops") else x for n, x in batch_of(name).items()}
    _, after, _ = settled(objective, params, memory, batch, torch.tensor(True))
    assert same(after, memory)


@every_objective
@every_trunk
def test_two_steps_of_every_pair(name, trunk):
    objective, optimizer = objective_of(name, trunk), adamw(1e-3)
    step = make_step(objective, optimizer)
    state = init_state(objective, optimizer, key(0))
    before = tree.clone(state)
    for count in (1, 2):
        new, metrics = step(state, batch_of(name))
        assert same(before, state)  # the step is pure
        assert metrics["skipped"] == 0
        assert new.memory["step"] == count
        assert 0 < metrics["feature_std"] < 1.1
        assert all(value.isfinite() and value.shape == () for value in metrics.values())
        assert form(new.memory) == form(state.memory)
        state, before = new, tree.clone(new)


@every_objective
def test_a_run_in_two_micro_batches_goes_on_from_a_file(name, tmp_path):
    objective, optimizer = objective_of(name), adamw(1e-3)
    step = make_step(objective, optimizer, accumulate=2)
    state, _ = step(init_state(objective, optimizer, key(0)), batch_of(name))
    path = checkpoint.save(tmp_path, state, 1, {})
    loaded, _ = checkpoint.load(path, init_state(objective, optimizer, key(5)))
    assert same(loaded, state)
    assert all(map(same, step(loaded, batch_of(name)), step(state, batch_of(name))))


@every_objective
def test_a_donated_step_is_the_same(name):
    objective, optimizer = objective_of(name), adamw(1e-3)
    start = init_state(objective, optimizer, key(0))
    pure, metrics = make_step(objective, optimizer)(start, batch_of(name))
    donated, same_metrics = make_step(objective, optimizer, donate=True)(tree.clone(start), batch_of(name))
    assert same(pure, donated)
    assert same(metrics, same_metrics)


@every_objective
def test_a_step_in_bfloat16_updates_params_and_memory_keeps_its_type(name):
    objective, optimizer = objective_of(name), sgd(1e-2)
    before = init_state(objective, optimizer, key(0))
    after, metrics = make_step(objective, optimizer, precision="bfloat16")(before, batch_of(name))
    assert metrics["skipped"] == 0
    assert metrics["loss"].dtype == torch.float32
    assert metrics["grad_norm"] > 0
    assert form(before) == form(after)
    assert not same(before.params, after.params)


@every_objective
def test_what_it_has_evaluated_are_params_of_its_model(name):
    objective, params, memory = start(name)
    images = batch_of(name)["crops.0"][:, 0]
    for found in (params, *getattr(objective, "evaluated", lambda memory: {})(memory).values()):
        assert objective.model.features(found, images).shape == (8, 8)


def test_a_collapse_is_told_of_all_but_by_mae():
    """Whose features cannot collapse, for they must tell pixels."""
    silent = {name for name in TABLE if "feature_std" not in getattr(objective_of(name), "alarms", {})}
    assert silent <= {"mae"}


def test_codes_of_one_prototype_are_told_and_codes_of_all_are_not():
    objective = objective_of("swav")
    codes = torch.eye(64).expand(2, -1, -1)
    least = objective.alarms["code_entropy"]
    assert usage([codes[:, :1].expand(-1, 64, -1)])["code_entropy"] < least < usage([codes])["code_entropy"]
