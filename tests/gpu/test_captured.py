"""A step as a CUDA graph, from batches that workers make and a thread pins."""

from itertools import islice

import torch

from blocks import convit, key, tree
from blocks.data import TrainLoader, TrainTransform, open_shards
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.train.captured import WARM
from blocks.train.step import init_state, make_step
from tests.data.pictures import shards


def test_a_graph_is_captured_while_a_loader_pins_its_next_batches(tmp_path, device):
    tiny = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "num_heads": 2, "depth": 2, "num_classes": 3}
    objective, optimizer = Supervised(convit(**tiny, local_up_to_layer=1)), adamw(1e-3)
    loader = TrainLoader(
        open_shards(shards(tmp_path, 23, 8)), batch_size=6, transform=TrainTransform(16), num_workers=2, device=device
    )
    states = [init_state(objective, optimizer, key(0, device)) for _ in range(2)]
    steps = [make_step(objective, optimizer, compile=how, donate=True) for how in ("graph", False)]
    with loader:
        for batch in islice(loader.batches(), WARM + 20):
            states = [step(state, batch)[0] for step, state in zip(steps, states, strict=True)]
    for mine, other in zip(*(tree.leaves(state.params) for state in states), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
