"""SwAV against sums written from the paper, its queue, and its prototypes."""

import math

import pytest
import torch
import torch.nn.functional as F

from blocks import key, tree
from blocks.layers.linear import Linear
from blocks.layers.weight_norm import Prototypes
from blocks.objectives.prototypes import normalise_, usage
from blocks.objectives.swav import SwAV
from blocks.random import normal
from tests.objectives.clustering_cases import batch_of, descend, model, start, swav, value_and_grads
from tests.train.small_problem import same


def embeddings(objective, params, batch):
    """z of all views [V, b, E] of length 1, view by view through the trunk, together through the head."""
    views = [crop for name in ("crops.0", "crops.1") if name in batch for crop in batch[name].unbind(1)]
    features = torch.cat([objective.model.features(params, view) for view in views])
    z = objective.model.head(params["head"], features)
    return (z / z.square().sum(1, keepdim=True).sqrt()).view(len(views), -1, z.shape[1])


def assignment(scores, epsilon=0.05, iterations=3):
    """Appendix A: Q [K, B] of scores [B, K], without any stabiliser."""
    q = (scores / epsilon).exp().T
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / len(q)
        q = q / q.sum(0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


def papers(objective, params, batch, older=None, harden=False):
    """Equations 1 to 3, pair by pair; `older` embeddings [A, L, E] take part in the assignment."""
    z, losses = embeddings(objective, params, batch), []
    for head in params["prototypes"].values():
        scores = z @ head["weight"].T
        for place, a in enumerate(objective.crops_for_assign):
            rows = scores[a] if older is None else torch.cat((older[place] @ head["weight"].T, scores[a]))
            codes = assignment(rows.detach(), iterations=objective.iterations)[-len(scores[a]) :]
            codes = torch.eye(codes.shape[1]).double()[codes.argmax(1)] if harden else codes
            for v in range(len(scores)):
                if v != a:
                    p = (scores[v] / objective.temperature).exp()
                    losses.append(-(codes * (p / p.sum(1, keepdim=True)).log()).sum(1).mean())
    return sum(losses) / len(losses), None


def both(objective, params, memory, batch, **options):
    """(loss and gradients as flat dicts) ours and the paper's."""
    ours = value_and_grads(lambda p: objective.loss(p, memory, batch, None)[:2], params)
    theirs = value_and_grads(lambda p: papers(objective, p, batch, **options), params)
    return [{"loss": loss, **tree.flatten(grads)} for loss, grads, _ in (ours, theirs)]


def assert_same(ours, theirs):
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-9, atol=1e-12, msg=lambda s, n=name: f"{n}: {s}")


@pytest.mark.parametrize("views", [(0, 1), (3,), (4, 0, 2)])
def test_loss_and_gradients_equal_the_papers_sums_in_float64(views):
    """One assignment a crop would do if heads had one size; these have 10 and 7 prototypes."""
    objective = swav(crops_for_assign=views)
    params, memory = start(objective)
    assert_same(*both(objective, params, memory, batch_of()))


def test_the_first_steps_can_take_the_codes_as_choices():
    objective = swav(hard_steps=1)
    params, memory = start(objective)
    assert_same(*both(objective, params, memory, batch_of(), harden=True))
    memory["step"] += 1
    assert_same(*both(objective, params, memory, batch_of()))


def test_double_precision_is_for_the_codes():
    """In float32 the codes are those of float64 scores, rounded once."""
    one, two = (swav(use_double=flag, prototypes=(Prototypes(6, 4),)) for flag in (False, True))
    block, scores = one.prototypes[0], normal(key(0), (2, 9, 4)).tanh()
    precise = two.codes(block, {}, scores, {})
    assert precise.dtype == torch.float32
    assert torch.equal(precise, one.codes(block, {}, scores.double(), {}).float())


def test_the_queue_takes_part_when_it_is_full_and_its_time_has_come():
    """Batches of 4 fill 6 places in two steps; the third finds them full, but only the fourth may use them."""
    objective = swav(queue_length=6, queue_start=3, crops_for_assign=(2, 0))
    params, memory = start(objective)
    seen = []
    for number in range(5):
        batch = batch_of(4, seed=number)
        with torch.no_grad():
            older = torch.cat(seen, 1)[:, -6:] if number >= 3 else None
            seen.append(embeddings(objective, params, batch)[[2, 0]])
        assert_same(*both(objective, params, memory, batch, older=older))
        _, params, memory = descend(objective, params, memory, batch, rate=0.0)


def test_an_early_queue_waits_until_it_is_full():
    objective, without = swav(queue_length=9), swav()
    params, memory = start(objective)
    for number in range(4):
        batch = batch_of(4, seed=number)
        expected = without.loss(params, without.remember(params), batch, None)[0]
        loss = objective.loss(params, memory, batch, None)[0]
        assert torch.isclose(loss, expected, rtol=1e-12) == (number < 3)
        _, params, memory = descend(objective, params, memory, batch, rate=0.0)


def test_prototypes_have_length_1_at_the_start_and_after_every_step():
    objective = swav(prototypes=(Prototypes(6, 10), Linear(6, 7, bias=False)))
    params, memory = objective.init(key(0))
    params = tree.cast(params, torch.float64)
    lengths = [head["weight"].norm(dim=1) for head in objective.fresh(key(0))["prototypes"].values()]
    _, params, _ = descend(objective, params, memory, batch_of(), rate=5.0)
    for found in [*lengths, *(head["weight"].norm(dim=1) for head in params["prototypes"].values())]:
        torch.testing.assert_close(found, torch.ones_like(found))


def test_prototypes_count_by_their_directions_however_long_they_are_given():
    """Lengths that would overflow any exponential."""
    objective = swav()
    params, memory = start(objective)
    long = {**params, "prototypes": tree.map(lambda p: 1e4 * p, params["prototypes"])}
    loss = objective.loss(params, memory, batch_of(), None)[0]
    torch.testing.assert_close(objective.loss(long, memory, batch_of(), None)[0], loss, rtol=1e-12, atol=0)
    short = tree.cast(long, torch.float16)
    assert objective.loss(short, memory, batch_of(dtype=torch.float16), None)[0].isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [2, 128])
def test_prototypes_that_sleep_keep_their_bits(dtype, width):
    """Ours, and those of other weights, whose lengths were rounded otherwise."""
    ours = normal(key(0), (500, width), dtype)
    normalise_(ours)
    for weight in (ours, F.normalize(normal(key(1), (500, width), dtype))):
        before = weight.clone()
        for _ in range(3):
            normalise_(weight)
        assert torch.equal(weight, before)


def test_usage_is_the_mean_over_heads_of_the_prototypes_that_are_some_codes_largest():
    """One of three, for all codes prefer the first; all that two codes can use of five."""
    one = torch.tensor([[[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.6, 0.1, 0.3]]])
    all_of_two = torch.eye(5)[None, [4, 1]]
    found = [usage(heads) for heads in ([one], [all_of_two], [one, all_of_two])]
    assert [f["prototypes_used"].item() for f in found] == pytest.approx([1 / 3, 1, 2 / 3])
    entropies = [f["code_entropy"].item() for f in found]
    assert entropies[2] == pytest.approx(sum(entropies[:2]) / 2)


def test_a_skipped_step_leaves_prototypes_queue_and_count():
    objective = swav(queue_length=6)
    params, memory = start(objective)
    params["prototypes"] = tree.map(lambda p: 2 * p, params["prototypes"])
    _, noted, _ = objective.loss(params, memory, batch_of(), None)
    before = tree.clone({"params": params, "memory": memory})
    after, _ = objective.settle_(params, noted, torch.tensor(True))
    assert same({"params": params, "memory": after}, before)


def test_one_prototype_costs_nothing():
    objective = swav(prototypes=(Prototypes(6, 1),))
    params, memory = start(objective)
    assert objective.loss(params, memory, batch_of(), None)[0].abs() < 1e-14


def test_embeddings_that_are_all_alike_cost_the_logarithm_of_the_prototypes_and_show():
    """Equal crops of equal images: codes are even, and so is the prediction where prototypes lie alike."""
    objective = SwAV(model(None), (Prototypes(8, 10),))
    params, memory = start(objective)
    params["prototypes"]["0"]["weight"][:] = params["prototypes"]["0"]["weight"][:1].clone()
    image = normal(key(1), (1, 1, 3, 8, 8), torch.float64)
    batch = {"crops.0": image.expand(8, 2, 3, 8, 8), "index": torch.arange(8)}
    loss, _, metrics = objective.loss(params, memory, batch, None)
    assert math.isclose(loss, math.log(10), rel_tol=1e-12)
    assert metrics["feature_std"] < 1e-6
    assert metrics["prototypes_used"] == 1 / 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_makes_float32_losses_that_are_near(dtype):
    """Embeddings of 8 or 11 bits; scores, codes and loss in float32."""
    objective = swav(queue_length=5)
    params, memory = start(objective, scale=1.0)
    loss = objective.loss(params, memory, batch_of(), None)[0]
    found = objective.loss(tree.cast(params, dtype), memory, batch_of(dtype=dtype), None)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss, rtol=0.1, atol=0)


def test_mistakes_are_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"prototypes \(\) are not a tuple of blocks"):
        swav(prototypes=())
    with pytest.raises(ValueError, match="are not a tuple of blocks"):
        swav(prototypes=Prototypes(6, 10))
    for views in ((0, 0), (), (0, -1)):
        with pytest.raises(ValueError, match=r"crops_for_assign \(.*\) are not numbers of different crops"):
            swav(crops_for_assign=views)
    with pytest.raises(ValueError, match="epsilon"):
        swav(epsilon=0.0)
    objective = swav(crops_for_assign=(0, 5))
    params, memory = start(objective)
    with pytest.raises(ValueError, match=r"crops_for_assign \(0, 5\) are not all among the batch's 5 crops"):
        objective.loss(params, memory, batch_of(), None)
