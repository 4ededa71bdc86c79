"""A model, an objective, an optimizer and batches small enough for any test, with all that a step must cope with."""

import attrs
import torch

from blocks import tree
from blocks.block import Block
from blocks.layers.drop import Dropout
from blocks.layers.linear import Linear
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.random import key, normal
from blocks.train.step import init_state


@attrs.frozen
class Net(Block):
    """Images [B, 3, 2, 2] -> logits [B, 5]; `spare` is a parameter that no logit depends on."""

    fc1: Linear
    drop: Dropout
    fc2: Linear
    spare: Linear

    @property
    def is_random(self):
        return self.drop.is_random

    def __call__(self, params, x, *, key=None):
        hidden = self.fc1(params["fc1"], x.flatten(1)).relu()
        return self.fc2(params["fc2"], self.drop({}, hidden, key=key))


def net(rate=0.2):
    return Net(Linear(12, 16), Dropout(rate), Linear(16, 5), Linear(2, 2))


@attrs.frozen
class Remembering:
    """A supervised objective whose memory counts its batches and holds the mean of the latest images."""

    supervised: Supervised

    def init(self, key):
        params, _ = self.supervised.init(key)
        return params, {"seen": torch.zeros((), dtype=torch.int64), "mean": torch.zeros(3), "frozen": torch.ones(2, 2)}

    def loss(self, params, memory, batch, key):
        loss, _, metrics = self.supervised.loss(params, {}, batch, key)
        mean = batch["images"].mean((0, 2, 3)).float()
        return loss, {"seen": memory["seen"] + 1, "mean": mean, "frozen": memory["frozen"]}, metrics


def setup(rate=0.2, ema=True, objective=None, **knobs):
    """(objective, optimizer, first state); knobs are init_state's."""
    objective = objective or Remembering(Supervised(net(rate), 0.1))
    optimizer = adamw(warmup_cosine(1e-2, 2, 20, start=1e-3))
    return objective, optimizer, init_state(objective, optimizer, key(3), ema=ema, **knobs)


def batch_of(size=8, seed=0):
    images = normal(key(100 + seed), (size, 3, 2, 2))
    return {"images": images, "labels": torch.arange(size) % 5, "index": torch.arange(size)}


def share(batch, rank, world_size):
    """A process's contiguous part of a global batch."""
    size = len(batch["images"]) // world_size
    return {name: value[rank * size : (rank + 1) * size] for name, value in batch.items()}


def same(a, b):
    """Bit for bit, every leaf."""
    a, b = tree.flatten(a), tree.flatten(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_pure(step, state, batch):
    """What the step returns: twice the same, from inputs and a random state of torch that stay, with new params."""
    before, given, random_state = tree.clone(state), tree.clone(batch), torch.get_rng_state()
    one, two = step(state, batch), step(state, batch)
    assert same(one[0], two[0])
    assert same(one[1], two[1])
    assert same(state, before)
    assert same(batch, given)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not same(one[0].params, state.params)
    return one


def assert_close(a, b, **tolerance):
    a, b = tree.flatten(a), tree.flatten(b)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def run(step, state, steps=3):
    for number in range(steps):
        state, metrics = step(state, batch_of(seed=number))
    return state, metrics


class Descent:
    """Gradient descent with rate 1: the smallest optimizer that the contract allows."""

    def init(self, params):
        return {}

    def update_(self, params, grads, state, *, skip=None):
        for value, grad in zip(tree.flatten(params).values(), tree.flatten(grads).values(), strict=True):
            value.sub_(grad.where(~skip, 0))
        return {}


def moved(new, old):
    pairs = zip(tree.flatten(new.params).values(), tree.flatten(old.params).values(), strict=True)
    return torch.stack([(a - b).norm() for a, b in pairs]).norm().item()
