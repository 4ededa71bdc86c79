"""Data, a model and a self-supervised objective that are small enough for any test of probing."""

import attrs
import torch

from blocks.notes import noted
from blocks.objectives.crops import crops_of, embed
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.probe.features import Features
from blocks.random import fold_in, key, normal
from blocks.train.distributed import Processes
from blocks.trunks.vit import vit

CLASSES, SIZE = 4, 8
TINY = {"img_size": SIZE, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 0}


def trunk(**knobs):
    return vit(**TINY | knobs)


class Images:
    """Labelled images in stored order, of which each process sees the share from ends[rank] to ends[rank + 1]."""

    def __init__(self, count=10, rank=0, ends=None, batch_size=4, seed=1):
        ends = ends or [0, count]
        self.mine, self.batch_size = (ends[rank], ends[rank + 1]), batch_size
        self.labels = torch.arange(count) % CLASSES
        self.images = normal(key(seed), (count, 3, SIZE, SIZE)) + 2 * normal(key(9), (CLASSES, 3, 1, 1))[self.labels]

    def __iter__(self):
        for start in range(*self.mine, self.batch_size):
            part = torch.arange(start, min(start + self.batch_size, self.mine[1]))
            yield {"images": self.images[part], "labels": self.labels[part], "index": part}


def cloud(count, seed, width=6, dtype=torch.float64):
    """Made-up features in clusters, one a class."""
    labels = (torch.arange(count) * 7 + seed) % CLASSES
    values = normal(key(seed), (count, width), dtype=dtype) + normal(key(0), (CLASSES, width), dtype=dtype)[labels]
    return Features(values, labels, torch.arange(count))


def part(found, start, stop):
    return Features(found.values[start:stop], found.labels[start:stop], found.index[start:stop])


@attrs.frozen(eq=False)
class Agreeing(SelfSupervised):
    """Two views' features are to agree; memory holds a slowly moving mean of them, as a centre would."""

    @property
    def alarms(self):
        return {"spread": 0.1}

    def remember(self, params):
        return {**super().remember(params), "centre": torch.zeros(8, dtype=params["cls_token"].dtype)}

    def outcome(self, params, memory, batch, key):
        keys = None if key is None else fold_in(key, batch["index"])
        features = embed(self.model, params, crops_of(batch), keys)
        loss = (features[0] - features[1]).square().mean() + 0.1 * features.mean().square()
        memory = noted(memory, features=features.mean(1))
        return Outcome(loss, memory, {"spread": features.detach().std()}, features[0].detach())

    def carry_(self, params, memory, notes, skip):
        moved = 0.9 * memory["centre"] + 0.1 * notes["features"].mean(0)
        memory["centre"].copy_(moved if skip is None else torch.where(skip, memory["centre"], moved))
        return {"centre_norm": memory["centre"].norm()}

    def evaluated(self, memory):
        return {"teacher": memory["centre"]}


def crops(size=8, seed=0, dtype=torch.float32):
    """A batch of two views of labelled images."""
    data = Images(size, seed=seed)
    views = torch.stack([data.images, data.images.flip(-1)], 1).to(dtype)
    return {"crops.0": views, "labels": data.labels, "index": torch.arange(size)}


HERE = Processes()
