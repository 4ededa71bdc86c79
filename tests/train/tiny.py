"""A tiny run: a linear classifier with a memory on made-up images, whose batches follow from the step alone."""

import math
import os
import signal

import attrs
import torch
import torch.distributed as dist

import blocks.random as random
from blocks import tree
from blocks.block import Block
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.train.distributed import Processes
from blocks.train.loop import run

CLASSES, SIZE, IMAGES, BATCH = 6, 4, 24, 8


@attrs.frozen
class Classifier(Block):
    """Linear: images [B, 3, 4, 4] -> logits [B, 6]; with a key, inputs are dropped per sample."""

    classes: int = CLASSES
    drop_rate: float = 0.25

    def init(self, key):
        weight = 0.1 * random.normal(key, (self.classes, 3 * SIZE * SIZE))
        return {"head": {"weight": weight, "bias": torch.zeros(self.classes)}}

    def __call__(self, params, x, *, key=None):
        x = x.flatten(1)
        if key is not None:
            x = x * random.bernoulli(random.per_sample(key, len(x)), 0.75, (x.shape[1],))
        return x @ params["head"]["weight"].T + params["head"]["bias"]


@attrs.frozen
class Remembering:
    """Supervised, plus a memory that counts steps and averages features, as a queue or a centre would."""

    model: Block
    draws: bool = True

    def init(self, key):
        return self.model.init(key), {
            "centre": torch.zeros(self.model.classes),
            "seen": torch.zeros((), dtype=torch.int64),
        }

    def loss(self, params, memory, batch, key):
        loss, _, metrics = Supervised(self.model).loss(params, {}, batch, key)
        mean = self.model(params, batch["images"]).detach().mean(0)
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        centre = 0.9 * memory["centre"] + 0.1 * mean
        return loss, {"centre": centre, "seen": memory["seen"] + 1}, metrics


class TrainData:
    """The face of TrainLoader over random images; `poison(step, images)` may spoil a step's images, or do worse."""

    def __init__(self, processes=None, batch_size=BATCH, poison=lambda step, images: images, num_samples=IMAGES):
        processes = processes or Processes()
        self.batch_size, self.steps_per_epoch = batch_size, num_samples // batch_size
        self.rank, self.share = processes.rank, batch_size // processes.world_size
        self.poison, self.skipped, self.closed = poison, {}, False

    def batches(self, start_step=0):
        step = start_step
        try:
            while True:
                key = random.fold_in(random.key(7), step)
                labels = (random.uniform(random.fold_in(key, 1), (self.batch_size,)) * CLASSES).long()
                images = random.normal(key, (self.batch_size, 3, SIZE, SIZE)) + labels[:, None, None, None] / 3
                mine = slice(self.rank * self.share, (self.rank + 1) * self.share)
                index = torch.arange(self.batch_size)[mine]
                yield {"images": self.poison(step, images)[mine], "labels": labels[mine], "index": index}
                step += 1
        finally:
            self.closed = True


class ValData:
    """A fixed set of `count` images, of which each process sees its own share, in batches of 4."""

    def __init__(self, processes=None, count=10, shares=None):
        processes = processes or Processes()
        ends = (
            [count * r // processes.world_size for r in range(processes.world_size + 1)] if shares is None else shares
        )
        self.mine, self.count, self.skipped = (ends[processes.rank], ends[processes.rank + 1]), count, {}

    def __iter__(self):
        labels = torch.arange(self.count) % CLASSES
        images = random.normal(random.key(9), (self.count, 3, SIZE, SIZE)) + labels[:, None, None, None] / 3
        for start in range(*self.mine, 4):
            part = slice(start, min(start + 4, self.mine[1]))
            yield {"images": images[part], "labels": labels[part]}


def numbers(history):
    """An epoch's records without its times."""
    timed = ("seconds", "images_per_second", "evaluation_seconds", "waited_seconds")
    return [{k: v for k, v in record.items() if k not in timed} for record in history]


def train(out, *, processes=None, epochs=4, train_data=None, val_data=None, objective=None, optimizer=None, **options):
    """A run of 4 epochs of 3 steps, with everything on that a state can hold."""
    processes = processes or Processes()
    train_data = train_data or TrainData(processes)
    optimizer = optimizer or adamw(
        warmup_cosine(1e-2, 2, epochs * train_data.steps_per_epoch), weight_decay=0.1, no_decay=["*.bias"]
    )
    options = {"log_every": 1, "clip_norm": 1.0, "ema_decay": 0.9, "seed": 3} | options
    objective = objective or Remembering(Classifier())
    return run(objective, optimizer, train_data, val_data, epochs=epochs, out=out, processes=processes, **options)


def assert_same(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, different


def ask_to_stop(at, number=signal.SIGTERM):
    """Images of step `at` come with a signal to this process."""

    def poison(step, images):
        if step == at:
            os.kill(os.getpid(), number)
        return images

    return TrainData(poison=poison)


def spoilt(*steps):
    """The images of some steps are NaN."""
    return TrainData(poison=lambda step, images: images * (math.nan if step in steps else 1.0))
