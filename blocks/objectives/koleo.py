"""KoLeo: features keep away from their nearest neighbour, and so spread out (Sablayrolles et al. 2019, equation 2)."""

import torch
from torch import Tensor

from blocks.collective import gather, world
from blocks.objectives.crops import unit

TINY = 1e-16  # the least squared distance: two images may be the same


def koleo(features: Tensor) -> Tensor:
    """The sum over views of -mean log |f_i - f_n(i)|, unit rows and each one's nearest of its view: [V, b, D] -> [].

    Among the images of all processes, whose gradients are exchanged too. The sum over two views is what DINOv2 weights
    by 0.1. Raises ValueError for one image in all processes.
    """
    if features.shape[1] * world()[1] < 2:
        raise ValueError("KoLeo of 1 image, which has no neighbour; use batches of 2 images or more, or koleo_weight 0")
    z = unit(features)
    everyone = gather(z, 1)  # [V, B, D]
    nearest = everyone.gather(1, _nearest(z, everyone)[..., None].expand_as(z))
    return -(z - nearest).square().sum(-1).add(TINY).log().mean(1).sum() / 2


@torch.no_grad()
def _nearest(z: Tensor, everyone: Tensor) -> Tensor:
    """Places [V, b] of rows' nearest others, z [V, b, D] being this process's part of everyone [V, B, D]."""
    likeness = z @ everyone.mT  # [V, b, B]
    own = world()[0] * z.shape[1] + torch.arange(z.shape[1], device=z.device)
    return likeness.scatter(2, own[:, None].expand(len(z), -1, 1), -torch.inf).argmax(2)
