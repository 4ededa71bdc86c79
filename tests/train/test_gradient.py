"""Gradients on leaf copies."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from blocks import tree
from blocks.train.gradient import LeafCopies, value_and_grad
from tests.train.small_problem import same

PARAMS = {
    "w": torch.tensor([[1.0, -2.0], [0.5, 3.0]]),
    "deep": {"b": torch.tensor([0.3, -0.1])},
    "unused": torch.ones(3),
}
X = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.2, 0.4]])


def loss(params):
    out = (X @ params["w"] + params["deep"]["b"]).tanh()
    return out.square().mean(), {"out": out.detach()}


def test_it_gives_torchs_gradients_and_zeros_for_unused_leaves():
    (value, aux), grads = value_and_grad(loss, PARAMS)
    leaves = tree.map(lambda t: t.clone().requires_grad_(), PARAMS)
    expected, _ = loss(leaves)
    expected.backward()
    assert torch.equal(value, expected.detach())
    assert torch.equal(grads["w"], leaves["w"].grad)
    assert torch.equal(grads["deep"]["b"], leaves["deep"]["b"].grad)
    assert torch.equal(grads["unused"], torch.zeros(3))
    assert aux["out"].shape == (3, 2)
    assert not value.requires_grad


def test_params_stay_as_they_are():
    before = tree.clone(PARAMS)
    value_and_grad(loss, PARAMS)
    assert same(PARAMS, before)
    assert not any(t.requires_grad or t.grad is not None for t in tree.flatten(PARAMS).values())


def test_it_works_with_activation_checkpointing():
    def checkpointed(params):
        return checkpoint(lambda: loss(params)[0], use_reentrant=False), None

    assert same(value_and_grad(checkpointed, PARAMS)[1], value_and_grad(loss, PARAMS)[1])


def test_gradients_are_contiguous_also_where_autograd_expands():
    grads = value_and_grad(lambda p: (p["w"].sum() + p["w"].T.sum(), None), PARAMS)[1]
    assert all(g.is_contiguous() for g in tree.flatten(grads).values())
    assert torch.equal(grads["w"], torch.full((2, 2), 2.0))


def test_in_bfloat16_the_gradient_is_that_through_a_differentiable_cast():
    def half(params):
        return loss(params)[0].float(), None

    global X
    kept, X = X, X.bfloat16()
    try:
        copies = LeafCopies(PARAMS, torch.bfloat16)
        grads = copies.own(copies.gradient(half)[2])
        expected = value_and_grad(lambda p: half(tree.cast(p, torch.bfloat16)), PARAMS)[1]
    finally:
        X = kept
    assert same(dict(zip("abc", grads, strict=True)), dict(zip("abc", tree.flatten(expected).values(), strict=True)))
    assert all(g.dtype == torch.float32 for g in grads)


def test_in_bfloat16_whole_numbers_stay_what_they_are():
    params = {"places": torch.tensor([1, 300]), "weight": torch.ones(301)}
    copies = LeafCopies(params, torch.bfloat16, frozen=("places",))
    seen = []

    def picked(params):
        seen.append(params["places"].clone())
        return params["weight"][params["places"]].sum().float(), None

    value, _, (grad,) = copies.gradient(picked)
    assert (value, grad.dtype, seen[0].tolist()) == (2.0, torch.bfloat16, [1, 300])
    assert grad.nonzero().flatten().tolist() == [1, 300]


def test_a_gradient_is_seen_before_the_earlier_layers_backward_runs():
    """What makes communication overlap the backward pass."""
    events = []

    class Log(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, name):
            ctx.name = name
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            events.append(f"backward {ctx.name}")
            return grad, None

    def deep(params):
        x = X
        for name in "abc":
            x = Log.apply(x @ params[name], name)
        return x.sum(), None

    copies = LeafCopies({name: torch.eye(2) for name in "abc"})
    for name, copy in zip("abc", copies.copies, strict=True):
        copy.register_post_accumulate_grad_hook(lambda _, name=name: events.append(f"gradient {name}"))
    copies.accumulate(deep)
    assert events == [f"{what} {name}" for name in "cba" for what in ("backward", "gradient")]


def test_copies_stand_for_the_same_tensors_under_the_same_names_only():
    copies = LeafCopies(PARAMS)
    assert copies.stand_for(tree.flatten({**PARAMS}))
    assert not copies.stand_for(tree.flatten(tree.clone(PARAMS)))
    assert not copies.stand_for(tree.flatten({"v" if name == "w" else name: value for name, value in PARAMS.items()}))
    assert not copies.stand_for(tree.flatten({"w": PARAMS["w"]}))
    assert not copies.stand_for(tree.flatten({**PARAMS, "more": torch.ones(1)}))


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_kept_copies_follow_an_update_in_place(dtype):
    params = tree.clone(PARAMS)
    copies = LeafCopies(params, dtype)
    square = lambda p: (p["w"].square().sum(), None)  # noqa: E731
    copies.gradient(square)
    params["w"].mul_(10)
    assert torch.equal(copies.own(copies.gradient(square)[2])[0], 2 * params["w"])
