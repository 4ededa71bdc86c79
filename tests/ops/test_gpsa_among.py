"""GPSA among some patches of a grid against the paper's formula on that subset."""

import pytest
import torch

from blocks.ops.gpsa import gpsa, position_attention
from blocks.ops.gpsa_among import gpsa_among, gpsa_among_dense, position_among
from blocks.random import key, per_sample
from tests.ops.test_gpsa import inputs, value_and_grads

GRID, WIDTH = (3, 5), 5
KEEP = torch.tensor([[0, 4, 7, 13], [14, 2, 1, 10]])  # any order
NAMES = ("value", "q", "k", "v", "weight", "bias", "gate")


def start(prefix, dtype=torch.float64):
    """Leaves for the kept tokens: as those of a grid of 1 x 4."""
    return inputs(2, 3, (1, 4), 5, prefix, dtype)


def fast(q, k, v, weight, bias, gate, scale=None):
    return gpsa_among(q, k, v, position_among(weight, bias, KEEP, WIDTH), gate.sigmoid(), scale=scale)


def paper(q, k, v, weight, bias, gate, scale=None):
    """Equations 6 to 8, number by number, with the position softmax over the kept patches alone."""
    samples, prefix, scale = [], q.shape[2] - 4, q.shape[-1] ** -0.5 if scale is None else scale
    for b in range(2):
        heads = []
        for h in range(3):
            rows = []
            for i in range(q.shape[2]):
                content = torch.stack([q[b, h, i] @ k[b, h, j] * scale for j in range(q.shape[2])]).softmax(0)
                if i < prefix:
                    rows.append(content @ v[b, h])
                    continue
                y, x = divmod(int(KEEP[b, i - prefix]), WIDTH)
                steps = [(int(p) % WIDTH - x, int(p) // WIDTH - y) for p in KEEP[b]]
                r = torch.tensor([[dx, dy, dx * dx + dy * dy] for dx, dy in steps], dtype=torch.float64)
                position = torch.cat((torch.zeros(prefix, dtype=torch.float64), (r @ weight[h] + bias[h]).softmax(0)))
                g = gate[h].sigmoid()
                rows.append(((1 - g) * content + g * position) @ v[b, h])
            heads.append(torch.stack(rows))
        samples.append(torch.stack(heads))
    return torch.stack(samples)


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_it_equals_the_papers_formula_on_the_subset_with_all_gradients(prefix, scale):
    ours, theirs = (value_and_grads(f, start(prefix), scale=scale) for f in (fast, paper))
    for name, a, b in zip(NAMES, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("prefix", [0, 1])
def test_among_all_patches_it_is_the_separable_gpsa(prefix):
    leaves = inputs(2, 3, GRID, 5, prefix)

    def whole(q, k, v, weight, bias, gate):
        return gpsa(q, k, v, *position_attention(weight, bias, GRID), gate.sigmoid(), num_prefix_tokens=prefix)

    def among(q, k, v, weight, bias, gate):
        position = position_among(weight, bias, torch.arange(15).expand(2, -1), WIDTH)
        return gpsa_among(q, k, v, position, gate.sigmoid())

    for a, b in zip(value_and_grads(whole, leaves), value_and_grads(among, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_patch_whose_neighbours_are_all_masked_still_attends_somewhere():
    """The whole grid's softmax has nothing but zeros there: over the kept alone it sums to 1."""
    weight, places = torch.tensor([[0.0, 0.0, -40.0]]), torch.tensor([[0, 195]])
    position = position_among(weight + torch.tensor([[1e4, 0.0, 0.0]]), torch.zeros(1), places, 14)
    torch.testing.assert_close(position.sum(-1), torch.ones(1, 1, 2))
    assert ((position == 0) | (position > 1e-15)).all()


def test_the_bias_gets_a_gradient_of_exactly_zero_and_position_is_float32_at_least():
    grads = dict(zip(NAMES, value_and_grads(fast, start(1, torch.float32)), strict=True))
    assert torch.equal(grads["bias"], torch.zeros(3))
    *_, weight, bias, _ = start(0)
    assert position_among(weight.bfloat16(), bias.bfloat16(), KEEP, WIDTH).dtype == torch.float32


@pytest.mark.parametrize("prefix", [0, 1])
def test_the_dense_form_equals_the_fast_one_and_drops_weights_by_the_samples_keys(prefix):
    q, k, v, weight, bias, gate = start(prefix)
    position, gate = position_among(weight, bias, KEEP, WIDTH), gate.sigmoid()
    plain = gpsa_among(q, k, v, position, gate)
    torch.testing.assert_close(gpsa_among_dense(q, k, v, position, gate), plain, rtol=1e-12, atol=1e-12)
    dropped = gpsa_among(q, k, v, position, gate, drop=0.5, key=key(1))
    last = gpsa_among(q[1:], k[1:], v[1:], position[1:], gate, drop=0.5, key=per_sample(key(1), 2)[1:])
    torch.testing.assert_close(dropped[1:], last)
    assert not torch.isclose(dropped, plain).any(-1).all()
    assert torch.equal(gpsa_among(q, k, v, position, gate, drop=0.5), plain)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_over_seeds_equals_the_loop():
    many = [torch.stack((x, 0.5 * x)) for x in start(1)]
    grad = torch.func.grad(lambda *leaves: fast(*leaves).square().sum(), argnums=tuple(range(6)))
    for i in range(2):
        for a, b in zip(torch.func.vmap(grad)(*many), grad(*(x[i] for x in many)), strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)
