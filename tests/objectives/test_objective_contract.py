"""What every objective promises, for every objective there is."""

import importlib
import pkgutil

import attrs
import pytest
import torch

import blocks.objectives
from blocks import key, tree
from blocks.objectives.linear_probes import LinearProbes
from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.runs import checkpoint
from blocks.train.step import init_state, make_step
from tests.objectives.table import TABLE, batch_of

every_objective = pytest.mark.parametrize("name", TABLE)


def start(name, seed=0):
    objective = TABLE[name].make()
    params, memory = objective.init(key(seed))
    return objective, tree.map(lambda p: 3 * p, params), memory


def gradient(objective, params, memory, batch, a_key):
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    flat = tree.flatten(leaves)
    loss, _, _ = objective.loss(leaves, memory, batch, a_key)
    grads = torch.autograd.grad(loss, list(flat.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(flat, grads, strict=True))


def same(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def parts(batch, count):
    return [{n: v.chunk(count)[i] for n, v in batch.items()} for i in range(count)]


def test_no_objective_is_missing_from_the_table():
    modules = [
        importlib.import_module(m.name) for m in pkgutil.walk_packages(blocks.objectives.__path__, "blocks.objectives.")
    ]
    found = {v for m in modules for v in vars(m).values() if attrs.has(v) and callable(getattr(v, "loss", None))}
    of_crops = {v for v in found if hasattr(v, "outcome")}  # `test_ssl_contract` has a table of these
    of_frozen_trunks = {LinearProbes}  # they draw nothing and train heads alone: `test_linear_probes`
    assert found - of_crops - of_frozen_trunks == {type(case.make()) for case in TABLE.values()}


@every_objective
def test_a_start_follows_from_its_key(name):
    first, again, other = (start(name, seed)[1:] for seed in (0, 0, 1))
    assert all(map(same, first, again))
    assert not same(first[0], other[0])


@every_objective
def test_all_it_makes_lies_where_its_params_do(name):
    """On the meta device, where a tensor that was made elsewhere would be an error, or show."""
    objective = TABLE[name].make()
    params, memory = objective.init(key(0, device="meta"))
    batch = {name: value.to("meta") for name, value in batch_of().items()}
    for given in (batch, {name: value for name, value in batch.items() if name != "index"}):
        loss, _, metrics = objective.loss(params, memory, given, key(1, device="meta"))
        assert {leaf.device.type for leaf in (loss, *metrics.values(), *tree.leaves(memory))} == {"meta"}


@every_objective
def test_the_loss_is_a_function_of_its_arguments_and_changes_none(name):
    objective, params, memory = start(name)
    batch, state = batch_of(), torch.random.get_rng_state()
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
    losses = [objective.loss(params, memory, batch_of(), k)[0] for k in (None, None, key(1), key(2))]
    assert losses[0] == losses[1]
    assert len(set(map(float, losses))) == 3
    assert objective.draws


@every_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_metrics_are_numbers_in_float32_at_least_and_memory_keeps_its_form(name, dtype):
    objective, params, memory = start(name)
    batch = batch_of()
    batch["images"] = batch["images"].to(dtype)
    loss, after, metrics = objective.loss(tree.cast(params, dtype), memory, batch, key(1))
    assert metrics.keys() == TABLE[name].metrics
    for value in (loss, *metrics.values()):
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert value.isfinite()
    assert not any(value.requires_grad for value in metrics.values())
    shapes = [{n: (t.shape, t.dtype) for n, t in tree.flatten(m).items()} for m in (memory, after)]
    assert shapes[0] == shapes[1]


@every_objective
def test_shares_of_a_batch_give_the_whole_one_s_loss_gradient_and_metrics(name):
    """What a sample draws follows from its index: so N processes equal one."""
    objective, params, memory = start(name)
    params, memory = tree.cast(params, torch.float64), tree.cast(memory, torch.float64)
    batch = {**batch_of(), "images": batch_of()["images"].double()}
    whole = objective.loss(params, memory, batch, key(1))
    shares = [objective.loss(params, memory, part, key(1)) for part in parts(batch, 2)]
    torch.testing.assert_close(whole[0], (shares[0][0] + shares[1][0]) / 2)
    for metric, value in whole[2].items():
        torch.testing.assert_close(value, (shares[0][2][metric] + shares[1][2][metric]) / 2)
    grads = [gradient(objective, params, memory, part, key(1)) for part in (batch, *parts(batch, 2))]
    for leaf, grad in grads[0].items():
        torch.testing.assert_close(grad, (grads[1][leaf] + grads[2][leaf]) / 2)


@every_objective
def test_gradients_are_torch_func_s(name):
    objective, params, memory = start(name)
    expected = torch.func.grad(lambda p: objective.loss(p, memory, batch_of(), key(1))[0])(params)
    for leaf, grad in gradient(objective, params, memory, batch_of(), key(1)).items():
        torch.testing.assert_close(grad, tree.flatten(expected)[leaf])


@every_objective
def test_some_steps_lower_the_loss_and_a_run_goes_on_from_a_file(name, tmp_path):
    objective, optimizer = TABLE[name].make(), adamw(warmup_cosine(3e-2, 1, 8), weight_decay=0.0)
    step = make_step(objective, optimizer, accumulate=2)
    state = init_state(objective, optimizer, key(0))
    before, _, _ = objective.loss(state.params, state.memory, batch_of(), None)
    for _ in range(8):
        state, _ = step(state, batch_of())
    assert objective.loss(state.params, state.memory, batch_of(), None)[0] < before
    path = checkpoint.save(tmp_path, state, 8, {})
    loaded, _ = checkpoint.load(path, init_state(objective, optimizer, key(5)))
    assert same(loaded, state)
    assert all(map(same, step(loaded, batch_of()), step(state, batch_of())))


@every_objective
def test_a_step_in_bfloat16_updates_every_param_and_leaves_the_memory_s_type(name):
    objective, optimizer = TABLE[name].make(), adamw(warmup_cosine(3e-2, 1, 8, start=1e-2))
    before = init_state(objective, optimizer, key(0))
    after, metrics = make_step(objective, optimizer, precision="bfloat16")(before, batch_of())
    assert metrics["skipped"] == 0
    assert metrics["grad_norm"] > 0
    types = [{n: t.dtype for n, t in tree.flatten(s).items()} for s in (before, after)]
    assert types[0] == types[1]
    leaves = tree.flatten(after.params)
    still = {n for n, t in tree.flatten(before.params).items() if torch.equal(t, leaves[n])}
    assert all(n.endswith("pos_proj.bias") for n in still)  # it cancels in the softmax
