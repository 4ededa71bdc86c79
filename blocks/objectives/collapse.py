"""Metrics that show a collapse: features that are all alike, codes that all go to a few prototypes."""

import math

import torch
from torch import Tensor

from blocks.collective import average, gather
from blocks.objectives.crops import unit
from blocks.objectives.supervised import at_least_float32

ALARMS = {"feature_std": 0.05, "code_entropy": 0.1}  # lowest healthy values, of what an objective measures


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    """How spread features z [.., E] are: 1 where they point everywhere alike, 0 where all are the same: -> [].

    The standard deviation over all processes' rows of each dimension of z / |z|, their mean, times sqrt(E): SimSiam
    (Chen & He 2021, section 4.1).
    """
    z = unit(z.flatten(0, -2))
    variances, means = gather(torch.stack(torch.var_mean(z, 0, correction=0))[None]).unbind(1)  # [W, E] each
    return (variances.mean(0) + means.var(0, correction=0)).sqrt().mean() * math.sqrt(z.shape[1])


@torch.no_grad()
def code_entropy(codes: Tensor) -> Tensor:
    """How evenly codes [.., K] use their K places, 1 where all alike, 0 where one takes all: -> [].

    The entropy of all processes' mean code over ln K, 1 for a single place. Codes are rows that sum to 1.
    """
    mean = average(at_least_float32(codes.flatten(0, -2)).mean(0))
    return torch.special.entr(mean).sum() / math.log(len(mean)) if len(mean) > 1 else mean.sum()
