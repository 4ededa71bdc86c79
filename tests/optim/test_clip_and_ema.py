"""Clipping against torch.nn.utils, and the moving average."""

import pytest
import torch
from timm.utils.agc import adaptive_clip_grad

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
    assert clip.global_norm([torch.zeros(1, dtype=torch.float16), torch.tensor([3e5, 4e5])]).item() == 5e5


def test_the_norm_of_a_half_precision_does_not_overflow_where_its_squares_would():
    assert clip.global_norm([torch.tensor([300.0], dtype=torch.float16), torch.tensor([400.0]).half()]).item() == 500


@pytest.mark.parametrize("count", [clip.PART + 40_000, 6_500_000])
def test_the_norm_of_many_numbers_is_accurate(count):
    """Summed one after another in float32 the squares of millions would be off by 2e-4."""
    x = torch.randn(count, generator=torch.Generator().manual_seed(0))
    exact = x.double().norm()
    assert abs(clip.vector_norm(x).double() / exact - 1) < 1e-5
    assert clip.vector_norm(torch.tensor([3.0, 4.0, torch.inf])) == torch.inf
    assert clip.vector_norm(torch.tensor([3.0, torch.nan])).isnan()


def flat(seed, *shapes):
    g = torch.Generator().manual_seed(seed)
    return {f"w{i}": torch.randn(shape, generator=g) for i, shape in enumerate(shapes)}


SHAPES = (4, 3, 2, 2), (5, 4), (5,), (1, 1, 6), ()


def test_clipping_by_norm_as_an_object_is_clipping_by_norm():
    params, grads = flat(0, *SHAPES), flat(1, *SHAPES)
    clipped = clip.ClipNorm(0.5)(params, grads, clip.global_norm(list(grads.values())))
    expected, _ = clip.clip_by_norm(grads, 0.5)
    assert all(torch.equal(clipped[name], expected[name]) for name in grads)


def test_clipping_by_value_equals_torch():
    grads = flat(1, *SHAPES)
    leaves = {name: torch.zeros(t.shape, requires_grad=True) for name, t in grads.items()}
    for name, leaf in leaves.items():
        leaf.grad = grads[name].clone()
    torch.nn.utils.clip_grad_value_(leaves.values(), 0.3)
    clipped = clip.ClipValue(0.3)(flat(0, *SHAPES), grads, torch.tensor(1.0))
    assert all(torch.equal(clipped[name], leaf.grad) for name, leaf in leaves.items())
    assert grads["w0"].abs().max() > 0.3


@pytest.mark.parametrize("most", [0.5, 3.0, 100.0])
def test_clipping_each_is_clipping_by_norm_one_by_one(most):
    grads = flat(1, *SHAPES)
    clipped = clip.ClipEach(most)(flat(0, *SHAPES), grads, torch.tensor(1.0))
    for name, grad in grads.items():
        alone, _ = clip.clip_by_norm({name: grad}, most)
        torch.testing.assert_close(clipped[name], alone[name], rtol=1e-6, atol=0)
        assert clipped[name].norm() <= most * (1 + 1e-6)
    assert not torch.equal(clipped["w0"], grads["w0"]) or most > grads["w0"].norm()


@pytest.mark.parametrize("factor", [0.01, 0.5, 100.0])
def test_adaptive_clipping_equals_timms(factor):
    params, grads = flat(0, *SHAPES), flat(1, *SHAPES)
    leaves = {name: t.clone().requires_grad_() for name, t in params.items()}
    for name, leaf in leaves.items():
        leaf.grad = grads[name].clone()
    adaptive_clip_grad(list(leaves.values()), factor, eps=1e-3)
    clipped = clip.ClipAdaptive(factor)(params, grads, torch.tensor(1.0))
    for name, leaf in leaves.items():
        torch.testing.assert_close(clipped[name], leaf.grad, rtol=1e-6, atol=0)


def test_adaptive_clipping_looks_at_each_unit_by_itself():
    """Brock et al. 2021, equation 3: row 0 is too long for its weights, row 1 is not, row 2 weighs eps, row 3 is 0."""
    params = {"w": torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [3.0, 4.0]])}
    grads = {"w": torch.tensor([[6.0, 8.0], [0.3, 0.4], [6.0, 8.0], [0.0, 0.0]])}
    clipped = clip.ClipAdaptive(0.5, eps=0.1)(params, grads, torch.tensor(1.0))["w"]
    torch.testing.assert_close(clipped, torch.tensor([[1.5, 2.0], [0.3, 0.4], [0.03, 0.04], [0.0, 0.0]]))


def test_adaptive_clipping_spares_the_exempt():
    params, grads = flat(0, (3, 4), (3, 4)), flat(1, (3, 4), (3, 4))
    clipped = clip.ClipAdaptive(1e-3, exempt=("w1",))(params, grads, torch.tensor(1.0))
    assert list(clipped) == list(grads)
    assert torch.equal(clipped["w1"], grads["w1"])
    assert not torch.equal(clipped["w0"], grads["w0"])
    with pytest.raises(ValueError, match="'head' matches no parameter"):
        clip.ClipAdaptive(exempt=("head",))(params, grads, torch.tensor(1.0))


def test_names_of_the_exempt_may_be_a_list_and_are_no_bare_string():
    assert clip.ClipAdaptive(exempt=["w1"]) == clip.ClipAdaptive(exempt=("w1",))
    with pytest.raises(ValueError, match=r"'head\.\*' is one string; give a tuple of name patterns"):
        clip.ClipAdaptive(exempt="head.*")


@pytest.mark.parametrize("clipping", [clip.ClipNorm(0.1), clip.ClipEach(0.1), clip.ClipValue(0.1), clip.ClipAdaptive()])
def test_clipping_leaves_params_and_gradients_as_they_are_and_a_nan_a_nan(clipping):
    params, grads = flat(0, *SHAPES), flat(1, *SHAPES)
    grads["w1"][0, 0] = torch.nan
    before = tree.clone({"p": params, "g": grads})
    clipped = clipping(params, grads, clip.global_norm(list(grads.values())))
    for name, leaf in tree.flatten({"p": params, "g": grads}).items():
        torch.testing.assert_close(leaf, tree.flatten(before)[name], rtol=0, atol=0, equal_nan=True)
    assert clipped["w1"][0, 0].isnan()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clip.ClipNorm(0.0), r"max_norm 0\.0 is not above 0"),
        (lambda: clip.ClipEach(0.0), r"max_norm 0\.0 is not above 0"),
        (lambda: clip.ClipValue(-1.0), r"max -1\.0 is not above 0"),
        (lambda: clip.ClipAdaptive(0.0), r"factor 0\.0 is not above 0"),
        (lambda: clip.ClipAdaptive(eps=0.0), r"eps 0\.0 is not above 0"),
    ],
)
def test_clipping_to_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("skip", [None, torch.tensor(False)])
def test_the_decay_may_be_a_schedules_value(dtype, skip):
    one, params = tree.cast(some_tree(0), dtype), tree.cast(some_tree(1), dtype)
    two = tree.clone(one)
    ema_update_(one, params, 0.9)
    ema_update_(two, params, torch.tensor(0.9, dtype=torch.float64), skip=skip)
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(one), tree.leaves(two), strict=True))
