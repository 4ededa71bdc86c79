"""Values and gradients of blocks, objectives and optimizers are those of a CPU, in double precision."""

import pytest
import torch

from blocks import key, tree
from blocks.optim.adamw import adamw
from blocks.random import normal
from blocks.train.step import init_state, make_step
from tests.block_table import TABLE as BLOCKS
from tests.objectives.ssl_table import TABLE as OBJECTIVES
from tests.objectives.ssl_table import TRUNKS, batch_of, objective_of
from tests.optim import table as optimizers

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def moved(node, device):
    return tree.map(lambda t: t.double() if t.is_floating_point() else t, tree.to(node, device))


def gradients(loss, params):
    """(the value, gradients by name) of a function of a tree, on the CPU again."""
    params = tree.map(lambda p: p.detach().requires_grad_(p.is_floating_point()), params)
    value = loss(params)
    leaves = {name: leaf for name, leaf in tree.flatten(params).items() if leaf.requires_grad}
    found = {}
    if leaves:
        grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        found = dict(zip(leaves, grads, strict=True))
    return tree.to({"value": value.detach(), **found}, "cpu")


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(device, name):
    case = BLOCKS[name]
    block = case.make()
    params = tree.map(lambda p: p + 0.1 * normal(key(7), tuple(p.shape)), block.init(key(0)))

    def found(where):
        own = moved({"params": params, "x": case.input(), "key": key(1)}, where)
        options = {n: v.to(where) if isinstance(v, torch.Tensor) else v for n, v in case.options.items()}
        drawn = {"key": own["key"]} if case.random else {}
        y = block(own["params"], own["x"], **drawn, **options)
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64, device=where).view(y.shape)
        return gradients(lambda p: (block(p, own["x"], **drawn, **options) * weights).sum(), own["params"])

    torch.testing.assert_close(found(device), found("cpu"), **CLOSE)


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_self_supervised_objectives(device, name, trunk):
    objective = objective_of(name, trunk)
    params, memory = objective.init(key(0))
    start = {"params": tree.map(lambda p: 3 * p, params), "memory": memory, "batch": batch_of(name), "key": key(1)}

    def found(where):
        own = moved(start, where)
        return gradients(lambda p: objective.loss(p, own["memory"], own["batch"], own["key"])[0], own["params"])

    torch.testing.assert_close(found(device), found("cpu"), **CLOSE)


@pytest.mark.parametrize("row", optimizers.ROWS)
def test_optimizers(device, row):
    def after_three(where):
        optimizer = optimizers.make(row)
        params = tree.to(optimizers.params_of(0, torch.float64), where)
        state = optimizer.init(params)
        for seed in (1, 2, 3):
            optimizer.update_(params, tree.to(optimizers.params_of(seed, torch.float64), where), state)
        return tree.flatten(tree.to(params, "cpu"))

    torch.testing.assert_close(after_three(device), after_three("cpu"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_steps(device, name, precision):
    """Three steps of a donated state are finite in every precision, and in float32 near those of a CPU."""

    def losses(where):
        objective, optimizer = objective_of(name), adamw(1e-3)
        state = init_state(objective, optimizer, key(0, where), ema=True, precision=precision)
        step = make_step(objective, optimizer, precision=precision, clip_norm=1.0, ema_decay=0.9, donate=True)
        found = []
        for _ in range(3):
            state, metrics = step(state, tree.to(batch_of(name), where))
            found.append(metrics["loss"].float())
        assert not state.skipped or precision == "float16"
        return torch.stack(found).cpu()

    on_gpu = losses(device)
    assert on_gpu.isfinite().all()
    if precision == "float32":
        torch.testing.assert_close(on_gpu, losses("cpu"), rtol=1e-3, atol=1e-4)
