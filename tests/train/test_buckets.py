"""The layout of buckets, and the order in which they are sent (sums over real processes: test_distributed.py)."""

import pytest
import torch
import torch.distributed as dist

import blocks
from blocks.train.buckets import BucketedSum, layout
from blocks.train.gradient import LeafCopies


def leaves(*sizes, dtype=torch.float32):
    return [torch.zeros(size, dtype=dtype) for size in sizes]


def test_buckets_go_from_the_last_leaf_to_the_first_and_the_first_bucket_is_small():
    assert layout(leaves(10, 10, 10, 10, 10), first=40, rest=80) == [[4], [3, 2], [1, 0]]


def test_a_bucket_holds_half_of_what_is_left_so_that_the_last_ones_are_small():
    buckets = layout(leaves(*[1] * 65), first=4, rest=80, last=16)
    assert [len(bucket) for bucket in buckets] == [1, 20, 20, 12, 6, 3, 3]
    assert [len(bucket) for bucket in layout(leaves(*[1] * 5), first=4, rest=80, last=16)] == [1, 4]


def test_a_leaf_larger_than_a_bucket_has_one():
    assert layout(leaves(1, 100, 1), first=4, rest=40) == [[2], [1], [0]]


def test_every_leaf_has_one_place():
    buckets = layout(leaves(*range(1, 40)), first=64, rest=256)
    assert sorted(place for bucket in buckets for place in bucket) == list(range(39))
    assert len(buckets) > 5


def test_a_bucket_holds_one_type():
    mixed = leaves(4, 4) + leaves(4, dtype=torch.float64) + leaves(4)
    assert layout(mixed) == [[3], [2], [1, 0]]


@pytest.fixture
def wire(monkeypatch):
    """Records what is sent, in place of a network of one process that doubles: what was waited for is there."""
    sent = []

    class Work:
        def __init__(self, flat):
            self.flat = flat

        def wait(self):
            self.flat.mul_(2)

    def all_reduce(flat, async_op=False):
        assert async_op
        sent.append(flat.clone())
        return Work(flat)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    return sent


def test_buckets_are_sent_while_the_backward_pass_runs_and_in_order(wire):
    params = {name: torch.eye(2) for name in "abcd"}
    sums = BucketedSum(list(params.values()), first=16, rest=16)
    before_layer = {}

    class Count(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, name):
            ctx.name = name
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            before_layer[ctx.name] = len(wire)
            return grad, None

    def deep(params):
        x = torch.ones(3, 2)
        for name in params:
            x = Count.apply(x @ params[name], name)
        return x.sum(), None

    copies = LeafCopies(params)
    sums.begin(copies.copies)
    copies.accumulate(deep)
    assert before_layer == {"d": 0, "c": 1, "b": 2, "a": 3}
    summed, norm = sums.finish()
    _, _, plain = LeafCopies(params).gradient(deep)
    assert all(torch.equal(s, 2 * g) for s, g in zip(summed, plain, strict=True))
    torch.testing.assert_close(norm, torch.cat([s.flatten() for s in summed]).norm())


def begun(*sizes, carried=None, **knobs):
    """Sums of zeros of these sizes that wait for gradients."""
    sums = BucketedSum(leaves(*sizes), **knobs)
    sums.begin([leaf.requires_grad_() for leaf in leaves(*sizes)], carried)
    return sums


def give(sums, place, value):
    """A gradient, as the backward pass leaves it."""
    leaf = sums.leaves[place]
    leaf.grad = torch.full_like(leaf, value)
    sums.look()


def test_a_bucket_waits_for_those_before_it(wire):
    sums = begun(4, 4, 4, first=16, rest=16)
    give(sums, 0, 1.0)
    give(sums, 1, 2.0)
    assert wire == []
    give(sums, 2, 3.0)
    assert [flat[0].item() for flat in wire] == [3, 2, 1]


def test_leaves_without_a_gradient_add_zero_also_after_a_step_that_had_one(wire):
    sums = begun(3, 3, 3, first=12, rest=24)
    for place in (2, 1, 0):
        give(sums, place, 1.0)
    sums.finish()
    sums.begin(sums.leaves)
    give(sums, 1, 5.0)
    assert [view.tolist() for view in sums.finish()[0]] == [[0.0] * 3, [10.0] * 3, [0.0] * 3]


def test_what_was_carried_is_added_once_also_for_leaves_without_a_gradient(wire):
    sums = begun(3, 3, first=64, carried=[torch.full((3,), 10.0), torch.full((3,), 20.0)])
    give(sums, 1, 1.0)
    assert [view.tolist() for view in sums.finish()[0]] == [[20.0] * 3, [42.0] * 3]


def test_gradients_in_bfloat16_are_summed_in_float32(wire):
    sums = BucketedSum(leaves(2), first=64)
    sums.begin([leaf.requires_grad_() for leaf in leaves(2, dtype=torch.bfloat16)])
    give(sums, 0, 1.0)
    assert sums.finish()[0][0].dtype == torch.float32


def test_gradients_are_let_go_as_soon_as_they_are_sent_and_after_a_pass_that_broke(wire):
    sums = begun(3, 3, first=12, rest=12)
    give(sums, 1, 1.0)
    assert len(wire) == 1
    assert sums.leaves[1].grad is None
    sums.leaves[0].grad = torch.full((3,), 7.0)  # and then an error
    sums.begin(sums.leaves)
    give(sums, 1, 2.0)
    assert [view.tolist() for view in sums.finish()[0]] == [[0.0] * 3, [4.0] * 3]


def test_leaves_of_another_copy_are_hooked_too_and_each_once(wire):
    """Without a donated state every step has leaves of its own."""
    params = {name: torch.eye(2) for name in "ab"}
    sums = BucketedSum(list(params.values()), first=16, rest=16)
    for _ in range(3):
        copies = LeafCopies(params)
        sums.begin(copies.copies)
        copies.accumulate(lambda p: ((p["a"] @ p["b"]).sum(), None))
        assert len(sums.sent) == 2  # in the backward pass
        sums.finish()
        sums.begin(copies.copies)
        copies.accumulate(lambda p: ((p["a"] @ p["b"]).sum(), None))
        assert len(sums.sent) == 2
        sums.finish()
    assert len(wire) == 12


def test_riders_are_summed_with_the_first_bucket_and_are_no_gradients(wire):
    sums = BucketedSum(leaves(1, 2), riders=2, first=8, rest=8)
    sums.begin([leaf.requires_grad_() for leaf in leaves(1, 2)], ride=torch.tensor([3.0, 4.0]))
    give(sums, 1, 1.0)
    give(sums, 0, 5.0)
    grads, norm = sums.finish()
    assert [flat.tolist() for flat in wire] == [[1.0, 1.0, 3.0, 4.0], [5.0]]
    assert sums.ridden.tolist() == [6.0, 8.0]
    assert [grad.tolist() for grad in grads] == [[10.0], [2.0, 2.0]]
    assert norm.item() == pytest.approx((10**2 + 2**2 + 2**2) ** 0.5)


def test_it_fits_leaves_of_its_shapes_and_types_and_as_many_riders():
    sums = BucketedSum(leaves(1, 2), riders=2)
    assert sums.fits(leaves(1, 2), 2)
    assert not sums.fits(leaves(1, 2), 1)
    assert not sums.fits(leaves(2, 1), 2)
    assert not sums.fits(leaves(1, 2, dtype=torch.float64), 2)


def test_released_leaves_send_nothing(wire):
    params = {"a": torch.eye(2)}
    sums, copies = BucketedSum(list(params.values())), LeafCopies(params)
    sums.begin(copies.copies)
    sums.release()
    copies.accumulate(lambda p: (p["a"].sum(), None))
    assert wire == []


def test_a_leaf_whose_gradient_comes_out_of_turn_loses_nothing(wire):
    """The hooked leaf is used last, so its gradient comes first: the bucket goes at the end."""
    params = {name: torch.full((2, 2), 1.0 + place) for place, name in enumerate("abc")}
    sums, copies = BucketedSum(list(params.values()), first=64), LeafCopies(params)
    function = lambda p: ((p["c"] @ p["b"] @ p["a"]).sum(), None)  # noqa: E731
    sums.begin(copies.copies)
    copies.accumulate(function)
    wanted = LeafCopies(params).gradient(function)[2]
    assert all(torch.equal(found, 2 * grad) for found, grad in zip(sums.finish()[0], wanted, strict=True))


@pytest.mark.parametrize("kind", ["vit", "convit"])
def test_real_models_buckets_go_when_their_last_gradient_came_or_the_next(wire, kind):
    """Of each bucket one leaf is hooked; what came last before it was sent is counted in leaves."""
    knobs = dict(img_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=4, num_classes=5)
    model = getattr(blocks, kind)(**knobs, **({"local_up_to_layer": 2} if kind == "convit" else {}))
    copies = LeafCopies(model.init(blocks.key(0)))
    sums = BucketedSum(copies.originals, first=400, rest=2000)
    came, sent = [], []
    for place, leaf in enumerate(copies.copies):
        leaf.register_post_accumulate_grad_hook(lambda _, place=place: came.append(place))
    sums.begin(copies.copies)
    send = sums.send
    sums.send = lambda bucket, grads: (sent.append(len(came)), send(bucket, grads))
    copies.accumulate(lambda params: (model(params, torch.ones(2, 3, 16, 16)).sum(), None))
    assert len(sent) == len(sums.buckets) > 8
    full = [max(came.index(place) for place in bucket.places) + 1 for bucket in sums.buckets]
    assert all(0 <= at - max(full[: number + 1]) <= 1 for number, at in enumerate(sent))
