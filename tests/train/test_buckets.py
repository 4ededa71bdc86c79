"""The layout of buckets, and the order in which they are sent (sums over real processes: test_distributed.py)."""

import pytest
import torch
import torch.distributed as dist

from blocks.train.buckets import BucketedSum, allocate, layout
from blocks.train.gradient import LeafCopies
from blocks.train.peers import WHOLE_NORM, Peers


def leaves(*sizes, dtype=torch.float32):
    return [torch.zeros(size, dtype=dtype) for size in sizes]


def test_buckets_go_from_the_last_leaf_to_the_first_and_the_first_bucket_is_small():
    assert layout(leaves(10, 10, 10, 10, 10), first=40, rest=80) == [[4], [3, 2], [1, 0]]


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
    """Records what is sent, in place of a network of one process that doubles."""
    sent = []

    class Work:
        def wait(self):
            pass

    def all_reduce(flat, group=None, async_op=False):
        assert async_op
        sent.append(flat.clone())
        flat.mul_(2)
        return Work()

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

    LeafCopies(params, watch=sums.watch).gradient(deep)
    assert before_layer == {"d": 0, "c": 1, "b": 2, "a": 3}
    summed, norm = sums.finish()
    _, _, plain = LeafCopies(params).gradient(deep)
    assert all(torch.equal(s, 2 * g) for s, g in zip(summed, plain, strict=True))
    torch.testing.assert_close(norm, torch.cat([s.flatten() for s in summed]).norm())


def test_a_bucket_waits_for_those_before_it(wire):
    sums = BucketedSum(leaves(4, 4, 4), first=16, rest=16)
    sums.watch(0, torch.full((4,), 1.0))
    sums.watch(1, torch.full((4,), 2.0))
    assert wire == []
    sums.watch(2, torch.full((4,), 3.0))
    assert [flat[0].item() for flat in wire] == [3, 2, 1]


def test_leaves_without_a_gradient_add_zero_also_after_a_step_that_had_one(wire):
    sums = BucketedSum(leaves(3, 3, 3), first=12, rest=24)
    for place in (2, 1, 0):
        sums.watch(place, torch.ones(3))
    sums.finish()
    sums.begin()
    sums.watch(1, torch.full((3,), 5.0))
    assert [view.tolist() for view in sums.finish()[0]] == [[0.0] * 3, [10.0] * 3, [0.0] * 3]


def test_what_was_carried_is_added_once_also_for_leaves_without_a_gradient(wire):
    sums = BucketedSum(leaves(3, 3), first=64)
    sums.begin([torch.full((3,), 10.0), torch.full((3,), 20.0)])
    sums.watch(1, torch.ones(3))
    assert [view.tolist() for view in sums.finish()[0]] == [[20.0] * 3, [42.0] * 3]


def test_a_large_norm_is_shared_and_a_small_one_is_not():
    peers = Peers(1, 2, None)
    assert peers.share(WHOLE_NORM) == (1, 2)
    assert peers.share(WHOLE_NORM - 1) == (0, 1)


def test_shares_leave_no_number_out_and_take_none_twice():
    buckets = [allocate(leaves(4, 3), (1, 0), 2, rank, 3) for rank in range(3)]
    assert [bucket.share.numel() for bucket in buckets] == [3, 2, 2]
    assert [bucket.share.storage_offset() for bucket in buckets] == [0, 3, 5]


def test_gradients_in_bfloat16_are_summed_in_float32(wire):
    sums = BucketedSum(leaves(2), first=64)
    sums.watch(0, torch.ones(2, dtype=torch.bfloat16))
    assert sums.finish()[0][0].dtype == torch.float32
