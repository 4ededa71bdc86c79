"""AdamW against torch.optim.AdamW, and what its state does."""

import pytest
import torch

from blocks import tree
from blocks.optim.adamw import adamw
from blocks.optim.schedule import linear, warmup_cosine


def params_of(seed, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return {
        "cls_token": torch.randn(1, 1, 4, generator=g, dtype=dtype),
        "blocks": {
            "0": {"fc": {"weight": torch.randn(3, 4, generator=g, dtype=dtype), "bias": torch.zeros(3, dtype=dtype)}}
        },
        "norm": {"weight": torch.ones(4, dtype=dtype)},
    }


def torch_adamw(params, decayed, lr, weight_decay, **knobs):
    leaves = {name: t.clone().requires_grad_() for name, t in tree.flatten(params).items()}
    groups = [
        {"params": [t for n, t in leaves.items() if n in decayed], "weight_decay": weight_decay},
        {"params": [t for n, t in leaves.items() if n not in decayed], "weight_decay": 0.0},
    ]
    return leaves, torch.optim.AdamW(groups, lr=lr, fused=True, **knobs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adamw_equals_torch_optim_bit_for_bit_with_decay_groups_and_a_schedule(dtype):
    params = params_of(0, dtype)
    schedule = warmup_cosine(1e-2, 3, 8, start=1e-4, end=1e-5)
    optimizer = adamw(schedule, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    leaves, theirs = torch_adamw(params, {"blocks.0.fc.weight"}, 1e-2, 0.1, betas=(0.8, 0.95), eps=1e-6)
    state = optimizer.init(params)
    for step in range(10):
        grads = params_of(100 + step, dtype)
        for group in theirs.param_groups:
            group["lr"] = float(schedule(step))
        for name, grad in tree.flatten(grads).items():
            leaves[name].grad = grad.clone()
        theirs.step()
        params, state = optimizer.update(params, grads, state)
        for name, ours in tree.flatten(params).items():
            assert torch.equal(ours, leaves[name]), f"{name} differs after step {step}"
    moments = tree.flatten(state["exp_avg_sq"])
    assert all(torch.equal(moments[n], theirs.state[leaf]["exp_avg_sq"]) for n, leaf in leaves.items())
    assert state["count"] == 10


def test_update_is_pure_and_update_in_place_gives_the_same():
    params, grads = params_of(0), params_of(1)
    optimizer = adamw(1e-2)
    state = optimizer.init(params)
    before = tree.clone({"params": params, "grads": grads, "state": state})
    new_params, new_state = optimizer.update(params, grads, state)
    after = {"params": params, "grads": grads, "state": state}
    assert equal(after, before)
    optimizer.update_(params, grads, state)
    assert equal({"p": params, "s": state}, {"p": new_params, "s": new_state})


def test_a_skipped_update_changes_nothing_not_even_the_count():
    params, optimizer = params_of(0), adamw(warmup_cosine(1e-2, 2, 10))
    params, state = optimizer.update(params, params_of(1), optimizer.init(params))
    broken = tree.map(lambda t: torch.full_like(t, torch.nan), params)
    new_params, new_state = optimizer.update(params, broken, state, skip=torch.tensor(True))
    assert equal({"p": new_params, "s": new_state}, {"p": params, "s": state})
    kept, _ = optimizer.update(params, params_of(2), state, skip=torch.tensor(False))
    plain, _ = optimizer.update(params, params_of(2), state)
    assert equal(kept, plain)


def three_updates(impl, skips, average):
    """(params, state, average, the last update's metrics), the decay by a schedule, one leaf late, one slow."""
    params, average = params_of(0), params_of(9) if average else None
    schedule, decay = warmup_cosine(1e-2, 2, 10, start=1e-3), linear(0.1, 0.4, 4)
    optimizer = adamw(schedule, weight_decay=decay, lr_scales={"*.bias": 0.5}, wake={"norm.*": 1}, impl=impl)
    state = optimizer.init(params)
    for step, skip in enumerate(skips):
        knobs = {"skip": skip, "factor": torch.tensor(0.5), "average": average, "ema_decay": 0.9}
        told = optimizer.update_all_(params, params_of(100 + step), state, **knobs)
    return {"params": params, "state": state, "average": average or {}, "told": told}


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "skips", [[None] * 3, [torch.tensor(step == 1) for step in range(3)]], ids=["plain", "skipped"]
)
def test_in_one_pass_it_is_the_update_in_parts(skips, average):
    parts, whole = (tree.flatten(three_updates(impl, skips, average)) for impl in ("torch", "plain"))
    assert parts.keys() == whole.keys() >= {"told.weight_decay"}
    for name, leaf in parts.items():
        torch.testing.assert_close(whole[name], leaf, rtol=2e-6, atol=1e-7, msg=lambda s, n=name: f"{n}: {s}")


def test_the_reported_rate_is_the_one_that_was_used():
    params, schedule = params_of(0), warmup_cosine(1e-2, 2, 10, start=1e-3)
    optimizer = adamw(schedule)
    state = optimizer.init(params)
    rates = [optimizer.update_(params, params_of(1), state)["lr"].item() for _ in range(4)]
    assert rates == [schedule(step).item() for step in range(4)]


def test_describe_says_what_decays():
    words = adamw(1e-3, weight_decay=0.05).describe(params_of(0))
    assert words == {
        "cls_token": "no weight decay",
        "blocks.0.fc.weight": "weight decay 0.05",
        "blocks.0.fc.bias": "no weight decay",
        "norm.weight": "no weight decay",
    }


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"betas": (0.9, 1.0)}, "betas"), ({"eps": -1.0}, "eps -1.0"), ({"weight_decay": -0.1}, "weight_decay -0.1")],
)
def test_impossible_hyperparameters_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        adamw(1e-3, **knobs)


def test_params_that_the_kernel_would_read_wrongly_are_refused():
    with pytest.raises(ValueError, match=r"w torch\.float32"):
        adamw(1e-3).init({"w": torch.zeros(3, 2).T})
    with pytest.raises(ValueError, match=r"n torch\.int64"):
        adamw(1e-3).init({"n": torch.zeros(3, dtype=torch.int64)})


def equal(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
