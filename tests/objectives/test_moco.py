"""MoCo's loss, queue and teacher against the paper, in float64."""

import attrs
import pytest
import torch
import torch.nn.functional as F

from blocks import key, tree
from blocks.layers.heads import ProjectionMlp
from blocks.objectives.moco import MoCo
from blocks.objectives.queue import enqueue_, new_queue
from blocks.optim.schedule import cosine
from blocks.random import normal
from blocks.trunks.convit import convit
from blocks.trunks.vit import vit
from tests.objectives.contrastive import DIM, moco, model
from tests.objectives.views import assert_close, batch_of, gradient, same, start


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def apart(memory):
    """A memory whose teacher is not the student."""
    return {**memory, "teacher": tree.map(lambda t: t + 0.1 * normal(key(8), tuple(t.shape)), memory["teacher"])}


def by_hand(objective, params, memory, batch):
    """He et al. 2020, equation 1 and algorithm 1: cross-entropy with the own key in place 0."""
    k = unit(objective.model(memory["teacher"], batch["crops.0"][:, 1])).detach()
    queries = [batch["crops.0"][:, v] for v in range(batch["crops.0"].shape[1]) if v != 1]
    losses = []
    for crops in (*queries, *batch.get("crops.1", torch.empty(8, 0)).unbind(1)):
        q = unit(objective.model(params, crops))
        logits = torch.cat(((q * k).sum(1, keepdim=True), q @ memory["queue"]["keys"].T), 1) / objective.temperature
        losses.append(F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("make", [vit, convit])
@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("small", [0, 2])
def test_loss_and_gradient_are_the_papers(make, norm, small):
    objective = moco(make, norm)
    params, memory = start(objective)
    memory, batch = apart(memory), batch_of(small=small)
    loss, _, metrics, grads = gradient(objective, params, memory, batch)
    leaves = tree.map(lambda p: p.clone().requires_grad_(), params)
    expected = by_hand(objective, leaves, memory, batch)
    flat = tree.flatten(leaves)
    wanted = torch.autograd.grad(expected, list(flat.values()), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-11, atol=1e-11)
    assert_close(grads, dict(zip(flat, wanted, strict=True)), rtol=1e-9, atol=1e-10)
    assert 0 < metrics["feature_std"] < 1.3
    assert -1 <= metrics["positive"] <= 1


def test_of_three_large_crops_the_second_alone_gives_keys():
    objective = moco()
    params, memory = start(objective)
    memory, batch = apart(memory), batch_of(small=1)
    batch["crops.0"] = torch.cat((batch["crops.0"], batch["crops.0"][:, :1].flip(0)), 1)
    loss, noted, metrics = objective.loss(params, memory, batch, None)
    torch.testing.assert_close(loss, by_hand(objective, params, memory, batch), rtol=1e-11, atol=1e-11)
    views = [batch["crops.0"][:, 0], batch["crops.0"][:, 2], batch["crops.1"][:, 0]]
    cosines = [(unit(objective.model(params, view)) * noted["notes"]["keys"]).sum(1) for view in views]
    torch.testing.assert_close(metrics["positive"], torch.cat(cosines).mean())


def numbered(start, count):
    """Keys that say their number."""
    return torch.arange(start, start + count, dtype=torch.float64)[:, None].expand(-1, 3)


@pytest.mark.parametrize("sizes", [[2] * 7, [4, 4, 4], [5, 1, 3, 5], [7], [3, 12, 2], [5], [23]])
def test_the_queue_keeps_the_newest_keys_for_any_batch_size(sizes):
    """Batches that fill 5 places just so, wrap around, or are larger than the queue."""
    queue, total = new_queue(5, 3, torch.zeros(1).double()), 100
    for size in sizes:
        enqueue_(queue, numbered(total, size), torch.tensor(False) if size % 2 else None)
        total += size
    oldest = int(queue["next"])
    assert queue["keys"].roll(-oldest, 0)[:, 0].tolist()[-min(5, total - 100) :] == list(
        range(max(100, total - 5), total)
    )


def test_keys_enter_a_queue_in_place_from_the_oldest_on():
    queue = new_queue(4, 3, torch.zeros(1))
    place = queue["keys"].data_ptr()
    enqueue_(queue, numbered(0, 3))
    enqueue_(queue, numbered(3, 2))
    assert queue["keys"][:, 0].tolist() == [4.0, 1.0, 2.0, 3.0]
    assert queue["next"] == 1
    assert queue["keys"].data_ptr() == place


def test_a_new_queue_holds_different_keys_of_length_1_and_always_the_same():
    queue = new_queue(50, 8, torch.zeros(1, dtype=torch.bfloat16))
    assert queue["keys"].dtype == torch.float32
    torch.testing.assert_close(queue["keys"].norm(dim=1), torch.ones(50))
    assert (queue["keys"] @ queue["keys"].T).fill_diagonal_(0).max() < 0.999
    assert same(queue, new_queue(50, 8, torch.zeros(1)))


def settled(objective, params, memory, skip=None, batch=None):
    _, memory, _ = objective.loss(params, memory, batch or batch_of(), None)
    return objective.settle_(start(objective, 4)[0], memory, skip)


def test_this_steps_keys_are_not_among_its_own_negatives_but_the_next_ones():
    objective = moco()
    params, memory = start(objective)
    before = memory["queue"]["keys"].clone()
    _, noted, _ = objective.loss(params, memory, batch_of(), None)
    assert torch.equal(noted["queue"]["keys"], before)
    after, _ = objective.settle_(params, noted)
    keys = unit(objective.model(params, batch_of()["crops.0"][:, 1]))
    torch.testing.assert_close(after["queue"]["keys"][:8], keys)
    assert torch.equal(after["queue"]["keys"][8:], before[8:])
    assert after["queue"]["next"] == 8
    assert "notes" not in after


@pytest.mark.parametrize("momentum", [0.0, 0.75, 1.0, cosine(0.5, 1.0, 4)])
def test_the_teacher_keeps_its_momentum_of_itself(momentum):
    objective = moco(momentum=momentum)
    params, memory = start(objective)
    before, moved = tree.clone(memory["teacher"]), start(objective, 4)[0]
    after, metrics = settled(objective, params, memory, torch.tensor(False))
    kept = momentum if isinstance(momentum, float) else 0.5
    assert_close(after["teacher"], tree.map(lambda k, q: kept * k + (1 - kept) * q, before, moved))
    assert metrics == ({} if isinstance(momentum, float) else {"teacher_momentum": 0.5})


@pytest.mark.parametrize("knobs", [{}, {"norm": "batch"}, {"momentum": cosine(0.5, 1.0, 4), "queue_size": 3}])
def test_a_skipped_step_changes_no_bit_of_the_memory(knobs):
    objective = moco(**knobs)
    params, memory = start(objective)
    before, broken = tree.clone(memory), batch_of()
    broken["crops.0"][3] = torch.nan
    after, _ = settled(objective, params, memory, torch.tensor(True), broken)
    assert same(after, before)


def shuffled_keys(objective, params, images, a_key):
    return objective.keys(params, images[:, 1:2], a_key)


def test_keys_of_one_group_of_batch_norm_are_drawn_together_by_the_key():
    """Who changes with image 1: its neighbour without a key, one drawn sample with it."""
    objective = moco(norm="batch", group_size=2)
    assert objective.draws
    params, _ = start(objective)
    images = batch_of()["crops.0"]
    other = images.clone()
    other[1] = -other[1]
    company = set()
    for a_key in (None, *map(key, range(6))):
        before, after = (shuffled_keys(objective, params, x, a_key) for x in (images, other))
        changed = (before - after).abs().amax(1).gt(1e-12).nonzero().flatten().tolist()
        assert len(changed) == 2
        assert 1 in changed
        assert a_key is not None or changed == [0, 1]
        company.add(tuple(changed))
    assert len(company) > 3


def test_shuffling_changes_nothing_where_batch_norm_sees_the_whole_batch():
    """So it is not done there: groups as large as the batch show it."""
    objective, whole = moco(norm="batch", group_size=8), moco(norm="batch")
    assert not whole.shuffles
    params, _ = start(objective)
    images = batch_of()["crops.0"]
    for a_key in (None, key(1)):
        torch.testing.assert_close(
            shuffled_keys(objective, params, images, a_key), shuffled_keys(whole, params, images, None)
        )


def test_an_objective_that_draws_nothing_wants_no_key():
    still = MoCo(vit(img_size=8, patch_size=4, embed_dim=8, num_heads=2, depth=1, num_classes=0), dim=8, queue_size=4)
    assert not still.draws
    grouped = attrs.evolve(still.model, head=ProjectionMlp(8, 8, 8, norm="batch", group_size=2))
    assert attrs.evolve(still, model=grouped).draws  # which keys share a group
    params, memory = start(still)
    loss, _, metrics = still.loss(params, memory, batch_of(), None)
    assert loss.isfinite()
    assert metrics.keys() == {"feature_std", "positive"}


def test_bfloat16_gives_about_the_same_loss_in_float32_and_keeps_the_memorys_types():
    objective = moco(norm="batch", queue_size=64)
    params, memory = start(objective, dtype=torch.float32, times=1.0)
    batch = batch_of(size=32, dtype=torch.float32)
    exact, _, _ = objective.loss(params, memory, batch, None)
    half = batch | {"crops.0": batch["crops.0"].bfloat16()}
    loss, noted, _ = objective.loss(tree.cast(params, torch.bfloat16), memory, half, None)
    assert loss.dtype == torch.float32
    assert loss == pytest.approx(float(exact), rel=0.05)
    types = {name: leaf.dtype for name, leaf in tree.flatten(memory).items()}
    after, _ = objective.settle_(params, noted)
    assert {name: leaf.dtype for name, leaf in tree.flatten(after).items()} == types


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: moco(dim=7), f"dim 7 is not the head's width {DIM}"),
        (lambda: moco(momentum=1.5), r"momentum 1\.5 is not in \[0, 1\]"),
        (lambda: moco(temperature=0.0), r"temperature.*0\.0"),
        (lambda: moco(queue_size=0), "queue_size.*0"),
    ],
)
def test_impossible_knobs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_batch_without_a_second_view_is_refused():
    batch = batch_of()
    batch["crops.0"] = batch["crops.0"][:, :1]
    with pytest.raises(ValueError, match="1 view, and MoCo's keys need a second one"):
        moco().loss(*start(moco()), batch, None)


def test_a_batch_without_crops_is_refused():
    with pytest.raises(ValueError, match=r"the batch has \['images'\] and no crops.0; give the loader a MultiCrop"):
        moco().loss(*start(moco()), {"images": batch_of()["crops.0"][:, 0]}, None)


def test_the_defaults_are_version_2s():
    objective = MoCo(model(), dim=DIM)
    assert (objective.queue_size, objective.momentum, objective.temperature) == (65_536, 0.999, 0.2)
