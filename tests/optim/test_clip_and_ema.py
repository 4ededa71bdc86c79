"""Clipping against torch.nn.utils, and the moving average."""

import pytest
import torch

from blocks import tree
from blocks.optim import clip
from blocks.optim.ema import ema_update_


def some_tree(seed):
    g = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(3, 4, generator=g), "b": {"c": torch.randn(5, generator=g)}}


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("small", [0, clip.SMALL])
def test_clipping_equals_torch_and_leaves_the_gradients_as_they_are(max_norm, small, monkeypatch):
    """Bit for bit where leaves are summed as torch does, to the last digits where small ones are summed together."""
    monkeypatch.setattr(clip, "SMALL", small)
    grads = some_tree(0)
    before = tree.clone(grads)
    leaves = [t.clone().requires_grad_() for t in tree.flatten(grads).values()]
    for leaf in leaves:
        leaf.grad = leaf.detach().clone()
    norm = torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    clipped, ours = clip.clip_by_norm(grads, max_norm)
    tolerance = {"atol": 0, "rtol": 1e-6 if small else 0}
    torch.testing.assert_close(ours, norm, **tolerance)
    for new, leaf in zip(tree.flatten(clipped).values(), leaves, strict=True):
        torch.testing.assert_close(new, leaf.grad, **tolerance)
    assert all(
        torch.equal(a, b) for a, b in zip(tree.flatten(grads).values(), tree.flatten(before).values(), strict=True)
    )


def test_the_norm_takes_leaves_of_different_types():
    assert clip.global_norm([torch.tensor([3.0]), torch.tensor([4.0], dtype=torch.float64)]) == 5


def test_the_average_follows_its_formula():
    ema, params = some_tree(0), some_tree(1)
    expected = tree.map(lambda e, p: 0.9 * e + 0.1 * p, ema, params)
    ema_update_(ema, params, 0.9, skip=torch.tensor(False))
    for got, want in zip(tree.flatten(ema).values(), tree.flatten(expected).values(), strict=True):
        torch.testing.assert_close(got, want)


def test_a_skipped_step_leaves_the_average_bit_for_bit():
    ema, params = some_tree(0), some_tree(1)
    before = tree.clone(ema)
    ema_update_(ema, params, 0.9, skip=torch.tensor(True))
    assert all(
        torch.equal(a, b) for a, b in zip(tree.flatten(ema).values(), tree.flatten(before).values(), strict=True)
    )


def test_with_and_without_skip_the_average_is_the_same():
    one, two = some_tree(0), some_tree(0)
    ema_update_(one, some_tree(1), 0.75)
    ema_update_(two, some_tree(1), 0.75, skip=torch.tensor(False))
    assert all(torch.equal(a, b) for a, b in zip(tree.flatten(one).values(), tree.flatten(two).values(), strict=True))
