"""The host runs ahead: once the first steps are done, a step never waits for the GPU."""

import pytest
import torch

from blocks import convit, key, tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.schedule import warmup_cosine
from blocks.random import normal
from blocks.train.readings import Readings
from blocks.train.step import init_state, make_step
from blocks.train.waiting import mark
from tests.objectives.ssl_table import TABLE, batch_of, objective_of
from tests.optim import table as optimizers


def steps(objective, optimizer, batch, device, no_waiting, **knobs):
    batch, ema = tree.to(batch, device), {"ema": True} if "ema_decay" in knobs else {}
    state = init_state(objective, optimizer, key(0, device), precision=knobs.get("precision", "float32"), **ema)
    step = make_step(objective, optimizer, donate=True, **knobs)
    for _ in range(2):
        state, _ = step(state, batch)
    readings = Readings(torch.device(device), 1)
    with no_waiting():
        for number in range(3):
            waited = mark(torch.device(device)), mark(torch.device(device))
            state, metrics = step(state, batch)
            readings.put(number, metrics, stop=False, waited=waited)
    assert all(0 <= values["waited"] < 1 for _, values in readings.take(all=True))
    return metrics["loss"].item()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_supervised(device, no_waiting, precision):
    tiny = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "num_heads": 2, "depth": 2, "num_classes": 5}
    objective = Supervised(convit(**tiny, local_up_to_layer=1, drop_path_rate=0.5), label_smoothing=0.1)
    batch = {"images": normal(key(1), (8, 3, 16, 16)), "labels": batch_of("simclr")["labels"]}
    optimizer = adamw(warmup_cosine(1e-3, 2, 10), weight_decay=warmup_cosine(0.1, 2, 10))
    knobs = {"precision": precision, "clip_norm": 1.0, "ema_decay": 0.9, "accumulate": 2}
    assert steps(objective, optimizer, batch, device, no_waiting, **knobs) > 0


@pytest.mark.parametrize("name", TABLE)
def test_self_supervised(device, no_waiting, name):
    loss = steps(objective_of(name), adamw(1e-3), batch_of(name), device, no_waiting, precision="bfloat16")
    assert loss == loss


@pytest.mark.parametrize("row", optimizers.ROWS)
def test_every_optimizer(device, no_waiting, row):
    batch = batch_of("simclr")
    assert steps(objective_of("simclr"), optimizers.make(row, 1e-3), batch, device, no_waiting) > 0
