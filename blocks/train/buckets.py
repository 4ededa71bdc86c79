"""Gradient averaging over processes, in buckets that overlap the backward pass."""

from collections.abc import Iterable

import attrs
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from blocks.optim.clip import vector_norm

FIRST_BUCKET = 1 << 20  # bytes: small, so that communication starts early
BUCKET = 25 << 20  # bytes: large enough for the full bandwidth, small enough to overlap
LAST_BUCKETS = 12 << 20  # bytes: what is left goes at once, as a call more costs what it saves (ViT-S, two on gloo)


@attrs.frozen(eq=False)
class Bucket:
    """Some leaves' gradients, side by side in one flat tensor; `views[i]` is that of leaf `places[i]`."""

    places: tuple[int, ...]
    flat: Tensor  # what is sent: the gradients, then the riders
    grads: Tensor  # its part that holds gradients
    views: tuple[Tensor, ...]


def layout(
    params: list[Tensor], first: int = FIRST_BUCKET, rest: int = BUCKET, last: int = LAST_BUCKETS
) -> list[list[int]]:
    """Places of leaves, bucket by bucket, from the last leaf to the first, about as their gradients come.

    The first is full at `first` bytes, each other one at `rest` or, if that is less, at half of those left, as long as
    these are more than `last`: so little is still to be sent when the backward pass ends. It follows from the leaves'
    shapes, types and devices alone, so that a run that was resumed sums in the same order.
    """
    buckets: list[list[int]] = []
    left = sum(leaf.nbytes for leaf in params)
    kind, size, limit = None, 0, first
    for place in reversed(range(len(params))):
        leaf = params[place]
        if (leaf.dtype, leaf.device) != kind or size >= limit:
            limit = min(rest, left // 2 if left > last else left) if buckets else first
            buckets.append([])
            kind, size = (leaf.dtype, leaf.device), 0
        buckets[-1].append(place)
        size += leaf.nbytes
        left -= leaf.nbytes
    return buckets


def allocate(params: list[Tensor], places: Iterable[int], riders: int) -> Bucket:
    """A bucket with storage for these leaves, and for some more numbers."""
    places = tuple(places)
    chosen = [params[i] for i in places]
    sizes = [t.numel() for t in chosen]
    flat = torch.empty(sum(sizes) + riders, dtype=chosen[0].dtype, device=chosen[0].device)
    grads = flat[: sum(sizes)]
    views = tuple(part.view(t.shape) for part, t in zip(grads.split(sizes), chosen, strict=True))
    return Bucket(places, flat, grads, views)


class BucketedSum:
    """Sums gradients over all processes while the backward pass still runs.

    After `begin(leaves)` it takes what comes to the leaves' `grad`; then `finish()` returns the sums, in the leaves'
    order. A bucket is sent when it and all before it are full, hence in the same order on all processes. A leaf without
    a gradient adds zero. Of each bucket one leaf is hooked, the earliest, whose gradient comes about last: a hook in
    Python for each leaf would cost a small model 2 % of its step. Gradients are brought into the bucket in one call.
    The storage is kept from step to step, and what `finish` returned is valid until the next backward pass.
    A few more numbers may ride in the first bucket, so that they need no exchange of their own.
    """

    def __init__(self, params: list[Tensor], riders: int = 0, **sizes: int):
        self.riders = riders
        self.kinds = [(t.shape, t.dtype, t.device) for t in params]
        places = layout(params, **sizes)
        self.buckets = [allocate(params, chosen, 0 if i else riders) for i, chosen in enumerate(places)]
        self.views = {p: v for bucket in self.buckets for p, v in zip(bucket.places, bucket.views, strict=True)}
        self.leaves: list[Tensor] = []
        self.hooks: list[RemovableHandle] = []
        self.sent: list[dist.Work] = []
        self.sending = False

    def fits(self, params: list[Tensor], riders: int) -> bool:
        """Whether these are leaves and riders like those it was made for."""
        return self.riders == riders and self.kinds == [(t.shape, t.dtype, t.device) for t in params]

    def begin(self, leaves: list[Tensor], carried: list[Tensor] | None = None, ride: Tensor | None = None) -> None:
        """Forget the last pass. `carried`: sums of earlier micro-batches here; `ride` [riders]: what else to sum."""
        if leaves is not self.leaves or self.sending:
            self.release()
            self.leaves = leaves
            hooked = [leaves[min(bucket.places)] for bucket in self.buckets]
            self.hooks = [leaf.register_post_accumulate_grad_hook(self.look) for leaf in hooked]
        self.carried, self.sent, self.sending = carried, [], True
        if ride is not None:
            self.ridden.copy_(ride)

    def release(self) -> None:
        """Look at no leaf any more, and leave none of a pass that an error ended with its gradient."""
        for hook in self.hooks:
            hook.remove()
        for leaf in self.leaves if self.sending else ():
            leaf.grad = None
        self.leaves, self.hooks, self.sending = [], [], False

    @property
    def ridden(self) -> Tensor:
        """The riders, [riders]: after `finish` their sums."""
        first = self.buckets[0]
        return first.flat[first.grads.numel() :]

    def look(self, _: Tensor | None = None) -> None:
        """Send the next buckets, as far as they are full."""
        while len(self.sent) < len(self.buckets):
            bucket = self.buckets[len(self.sent)]
            grads = self.grads_of(bucket)
            if any(grad is None for grad in grads):
                return
            self.send(bucket, grads)

    def grads_of(self, bucket: Bucket) -> list[Tensor | None]:
        """What came to its leaves so far, None where nothing did."""
        return [self.leaves[place].grad for place in bucket.places]

    def send(self, bucket: Bucket, grads: list[Tensor | None]) -> None:
        """Start the bucket's sum: what was carried, if anything, and the gradients that came, which are let go."""
        came = [(view, grad) for view, grad in zip(bucket.views, grads, strict=True) if grad is not None]
        if self.carried is not None:
            torch._foreach_copy_(list(bucket.views), [self.carried[place] for place in bucket.places])
        elif len(came) < len(grads):
            torch._foreach_zero_([view for view, grad in zip(bucket.views, grads, strict=True) if grad is None])
        if came:
            put = torch._foreach_copy_ if self.carried is None else torch._foreach_add_
            put([view for view, _ in came], [grad for _, grad in came])
        for place in bucket.places:
            self.leaves[place].grad = None
        self.sent.append(dist.all_reduce(bucket.flat, async_op=True))

    def finish(self) -> tuple[list[Tensor], Tensor]:
        """Send the rest, wait for all, and return (the sums leaf by leaf, their 2-norm []).

        Each process takes the norm by itself: processes on processors of one kind find the same bits.
        """
        for bucket in self.buckets[len(self.sent) :]:
            self.send(bucket, self.grads_of(bucket))
        self.carried, self.sending = None, False
        norms = []
        for bucket, work in zip(self.buckets, self.sent, strict=True):
            work.wait()
            norms.append(vector_norm(bucket.grads))  # while the next bucket travels
        norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].dtype) for n in norms]))
        return [self.views[place] for place in range(len(self.kinds))], norm
