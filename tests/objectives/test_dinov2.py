"""What DINOv2 adds to DINO and iBOT, even codes and KoLeo, against the papers' words written out."""

import math

import pytest
import torch

from blocks import key, tree
from blocks.objectives.centring import even_codes, taught_codes
from blocks.objectives.dino import DINO
from blocks.objectives.koleo import koleo
from blocks.objectives.masking import BlockMasks
from blocks.random import normal
from tests.objectives.masked import convit_model, dino_head, ibot, look, mask_of, vit_model
from tests.objectives.views import batch_of, gradient, start

OBJECTIVES = {
    "vit": lambda **options: ibot(vit_model(dino_head()), centring="sinkhorn", koleo_weight=0.3, **options),
    "convit, two heads": lambda **options: ibot(
        convit_model(dino_head()), patch_head=dino_head(7), centring="sinkhorn", koleo_weight=0.3, **options
    ),
}
every = pytest.mark.parametrize("name", OBJECTIVES)


def slow_koleo(features):
    """Sablayrolles et al. 2019, equation 2, of rows of length 1: rows [B, D] -> []."""
    rows = [row / row.norm() for row in features]
    found = []
    for i, row in enumerate(rows):
        others = [(row - other).norm() for j, other in enumerate(rows) if j != i]
        found.append(-min(others).log())
    return sum(found) / len(found)


def slow_codes(logits, temperature):
    """Sinkhorn and Knopp's three rounds, in which columns, then rows get equal sums: rows [R, K] -> [R, K]."""
    shares = (logits / temperature).exp()
    for _ in range(3):
        shares = shares / shares.sum(0) / shares.shape[1]
        shares = shares / shares.sum(1, keepdim=True) / shares.shape[0]
    return shares / shares.sum(1, keepdim=True)


def test_koleo_is_the_paper_s_sum_with_its_gradient():
    features = normal(key(3), (2, 5, 4), torch.float64).requires_grad_()
    expected = sum(slow_koleo(view) for view in features)
    torch.testing.assert_close(koleo(features), expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value, features)[0] for value in (koleo(features), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert theirs.abs().max() > 0.01


def test_koleo_bears_images_that_are_the_same():
    features = torch.ones(1, 3, 4, requires_grad=True)
    value = koleo(features)
    assert value.item() == pytest.approx(-math.log(1e-8), rel=1e-6)
    assert torch.autograd.grad(value, features)[0].isfinite().all()


def test_koleo_of_a_pair_is_known_and_in_single_precision_at_least():
    features = torch.tensor([[[1.0, 0.0], [0.0, 7.0]]], dtype=torch.bfloat16)
    assert koleo(features).item() == pytest.approx(-math.log(2) / 2, rel=1e-6)
    assert koleo(features).dtype == torch.float32


def test_koleo_of_one_image_is_refused():
    with pytest.raises(ValueError, match="KoLeo of 1 image, which has no neighbour; use batches of 2"):
        koleo(torch.zeros(2, 1, 4))


def test_even_codes_are_sinkhorn_s_of_all_crops_together():
    logits = normal(key(1), (2, 6, 5), torch.float64)
    expected = slow_codes(logits.flatten(0, 1), 0.3).view(2, 6, 5)
    torch.testing.assert_close(even_codes(logits, 0.3), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(even_codes(logits, torch.tensor(0.3).double()), expected, rtol=1e-6, atol=1e-8)
    assert (even_codes(logits, 0.3) - even_codes(logits[:1], 0.3)).abs().max() > 0.01
    assert torch.equal(taught_codes(logits, None, 0.3), even_codes(logits, 0.3))


def test_rows_that_are_not_counted_have_no_say():
    logits, counted = normal(key(1), (2, 6, 5), torch.float64), torch.arange(12).view(2, 6) % 3 > 0
    found = even_codes(logits, 0.3, counted)
    torch.testing.assert_close(found[counted], slow_codes(logits[counted], 0.3), rtol=1e-12, atol=1e-14)
    other = even_codes(torch.where(counted[..., None], logits, 9 * logits), 0.3, counted)
    torch.testing.assert_close(found[counted], other[counted])


def test_where_none_is_counted_codes_are_still_numbers():
    logits = normal(key(1), (1, 6, 5))
    found = even_codes(logits, 0.04, torch.zeros(1, 6, dtype=torch.bool))
    torch.testing.assert_close(found.sum(-1), torch.ones(1, 6))
    assert torch.equal(found, even_codes(logits, 0.04))


def codes_of(logits, temperature):
    """Lists of rows [K] -> their codes, together."""
    return list(slow_codes(torch.stack(logits), temperature))


def slow_loss(objective, params, memory, batch, a_key):
    """(class loss, patch loss, KoLeo) of large crops alone, image by image and patch by patch."""
    crops, size = batch["crops.0"].unbind(1), len(batch["index"])
    pairs = [(a, s) for a in range(2) for s in range(size)]
    masks = {(a, s): mask_of(objective, s, a, a_key) for a, s in pairs}
    student = {(a, s): look(objective, params, crops[a][s], masks[a, s]) for a, s in pairs}
    with torch.no_grad():
        teacher = {(a, s): look(objective, memory["teacher"], crops[a][s]) for a, s in pairs}
    codes = dict(zip(pairs, codes_of([teacher[pair][0] for pair in pairs], 0.2), strict=True))
    cls = [-(codes[a, s] * (student[1 - a, s][0] / 0.1).log_softmax(-1)).sum() for a, s in pairs]
    places = [(pair, i) for pair in pairs for i in range(16) if masks[pair][i]]
    said = dict(zip(places, codes_of([teacher[pair][1][i] for pair, i in places], 0.3), strict=True))
    patch = []
    for pair in pairs:
        own = [-(said[pair, i] * (student[pair][1][i] / 0.1).log_softmax(-1)).sum() for p, i in places if p == pair]
        patch.append(sum(own) / max(len(own), 1))
    features = [torch.stack([student[a, s][2] for s in range(size)]) for a in range(2)]
    return sum(cls) / len(cls), sum(patch) / len(patch), sum(map(slow_koleo, features))


def begin(name, **options):
    """Objective, params, and a memory with another teacher."""
    objective = OBJECTIVES[name](**options)
    params, memory = start(objective)
    params["mask_token"] = torch.linspace(-1, 1, 8, dtype=torch.float64).view(1, 1, 8)
    return objective, params, {**memory, "teacher": start(objective, 9)[0]}


@every
def test_it_equals_the_equations_patch_by_patch_with_all_gradients(name):
    objective, params, memory = begin(name)
    batch = batch_of(4)
    masked = [int(mask_of(objective, s, v, key(5)).sum()) for s in range(4) for v in range(2)]
    assert min(masked) == 0 < max(masked)
    loss, _, metrics, grads = gradient(objective, params, memory, batch, key(5))
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    slow = slow_loss(objective, leaves, memory, batch, key(5))
    for metric, value in zip(("cls_loss", "patch_loss", "koleo"), slow, strict=True):
        torch.testing.assert_close(metrics[metric], value.detach(), rtol=1e-10, atol=1e-10)
    expected = slow[0] + slow[1] + 0.3 * slow[2]
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-10)
    flat = tree.flatten(leaves)
    theirs = torch.autograd.grad(expected, list(flat.values()), allow_unused=True, materialize_grads=True)
    for leaf, grad in zip(flat, theirs, strict=True):
        torch.testing.assert_close(grads[leaf], grad, rtol=1e-8, atol=1e-10, msg=lambda m, n=leaf: f"{n}: {m}")


@every
def test_it_has_a_teacher_that_moves_and_no_centre(name):
    objective, params, memory = begin(name)
    assert {"centre", "patch_centre"}.isdisjoint(memory)
    before, updated = tree.clone(memory["teacher"]), start(objective, 4)[0]
    _, noted, metrics, _ = gradient(objective, params, memory, batch_of(3), key(5))
    assert "centre" not in noted.get("notes", {})
    assert metrics["code_entropy"] > 0.9
    after, _ = objective.settle_(updated, noted)
    expected = tree.map(lambda old, new: 0.8 * old + 0.2 * new, before, updated)
    for leaf, value in tree.flatten(expected).items():
        torch.testing.assert_close(tree.flatten(after["teacher"])[leaf], value)


def test_dino_has_both_too():
    model = vit_model(dino_head())
    batch = batch_of(4, small=2)
    params, memory = start(DINO(model))
    objective = DINO(model, teacher_temp=0.3, centring="sinkhorn", koleo_weight=0.5)
    loss, _, metrics, _ = gradient(objective, params, objective.remember(params), batch)
    large, small = ([model.features(params, crop) for crop in batch[name].unbind(1)] for name in ("crops.0", "crops.1"))
    z = [model.head(params["head"], feature) for feature in (*large, *small)]
    codes = slow_codes(torch.cat(z[:2]), 0.3).view(2, 4, -1)
    pairs = [(a, v) for a in range(2) for v in range(4) if v != a]
    cls = sum(-(codes[a] * (z[v] / 0.1).log_softmax(-1)).sum(-1).mean() for a, v in pairs) / len(pairs)
    near = sum(map(slow_koleo, large))
    torch.testing.assert_close(metrics["koleo"], near, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(loss, cls + 0.5 * near, rtol=1e-10, atol=1e-10)
    plain = DINO(model, teacher_temp=0.3)
    assert "koleo" not in gradient(plain, params, memory, batch)[2]


def test_small_crops_keep_no_distance():
    objective, params, memory = begin("vit")
    near = [gradient(objective, params, memory, batch_of(4, small=n), key(5))[2]["koleo"] for n in (0, 2)]
    torch.testing.assert_close(near[1], near[0], rtol=1e-12, atol=1e-12)


def test_small_batches_that_mask_nothing_are_finite():
    objective, params, memory = begin("vit", masks=BlockMasks(share=0.2))
    found = [gradient(objective, params, memory, batch_of(2), key(k)) for k in range(12)]
    assert min(metrics["patch_loss"] for _, _, metrics, _ in found) == 0
    assert all(loss.isfinite() and all(g.isfinite().all() for g in grads.values()) for loss, _, _, grads in found)


def test_what_is_no_such_option_is_refused():
    model = vit_model(dino_head())
    with pytest.raises(ValueError, match="centring 'centering'"):
        DINO(model, centring="centering")
    with pytest.raises(ValueError, match="koleo_weight -1 must not be negative"):
        ibot(model, koleo_weight=-1)
