"""Tiny pretraining runs, with all that a memory can hold: a queue, teachers, a centre, prototypes, moments, a probe."""

import torch

from blocks import random
from blocks.layers.dino_head import DinoHead
from blocks.layers.heads import ProjectionMlp
from blocks.layers.weight_norm import Prototypes
from blocks.objectives.dino import DINO
from blocks.objectives.moco import MoCo
from blocks.objectives.monitored import Monitored
from blocks.objectives.swav import SwAV
from blocks.optim.schedule import cosine, linear
from blocks.trunks.convit import convit
from tests.train.tiny import TrainData, train

TINY = {"img_size": 4, "patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3}


def model(head):
    return convit(**TINY, local_up_to_layer=1, head=head)


def moco():
    head = ProjectionMlp(8, 10, 6, norm="batch", group_size=4)
    return MoCo(model(head), queue_size=20, dim=6, momentum=cosine(0.9, 1.0, 12))


def swav():
    head = ProjectionMlp(8, 10, 6, norm="batch")
    return SwAV(model(head), (Prototypes(6, 5),), queue_length=16, queue_start=2)


def dino():
    return DINO(model(DinoHead(8, 7, 10, 6)), cosine(0.9, 1.0, 12), teacher_temp=linear(0.04, 0.07, 6))


OBJECTIVES = {"moco": moco, "swav": swav, "dino": dino}


class Views(TrainData):
    """Two views of each image, the second noisier."""

    def batches(self, start_step=0):
        for step, batch in enumerate(super().batches(start_step), start_step):
            images = batch.pop("images")
            noise = random.normal(random.fold_in(random.key(11), step), (self.batch_size, *images.shape[1:]))
            yield {"crops.0": torch.stack((images, images + noise), 1), **batch}


def pretrain(folder, name, train_data=None, **options):
    """A run of 4 epochs of 3 steps."""
    objective = Monitored(OBJECTIVES[name](), num_classes=6, embed_dim=8)
    return train(folder, train_data=train_data or Views(), objective=objective, ema_decay=None, **options)
