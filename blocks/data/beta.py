"""Symmetric Beta variables from uniform numbers: torch's own samplers take no key and no generator."""

import math

import torch
from torch import Tensor

ROUNDS = 6  # a round refuses at most 0.05 of the candidates: all six 2e-8, and then the gamma's mode is taken
NUMBERS = 2 * (2 * ROUNDS + 1)  # uniform numbers for one Beta variable


def symmetric_beta(alpha: Tensor, uniforms: Tensor) -> Tensor:
    """Beta(alpha, alpha): alpha [...] above 0, float64 uniforms in (0, 1) [..., NUMBERS] -> [...].

    x / (x + y) of two gamma variables, from their logarithms: for small alphas the variables themselves underflow.
    """
    x, y = _log_gamma(alpha.double()[..., None], uniforms.unflatten(-1, (2, -1))).unbind(-1)
    return torch.sigmoid(x - y)


def _log_gamma(shape: Tensor, uniforms: Tensor) -> Tensor:
    """Logarithm of Gamma(shape): shape [...], uniforms [..., 2 * ROUNDS + 1] -> [...].

    Marsaglia and Tsang 2000, "A simple method for generating gamma variables": the first accepted candidate for
    shape + 1, and Gamma(shape) = Gamma(shape + 1) * U^(1 / shape).
    """
    d = shape + 2 / 3
    normal = math.sqrt(2) * torch.erfinv(2 * uniforms[..., :ROUNDS] - 1)
    v = (1 + normal / (9 * d).sqrt()[..., None]) ** 3  # [..., rounds]
    log_v = v.clamp(min=torch.finfo(v.dtype).tiny).log()
    bound = normal.square() / 2 + d[..., None] * (1 - v + log_v)
    accepted = (v > 0) & (uniforms[..., ROUNDS:-1].log() < bound)
    log_v = torch.where(accepted, log_v, 0.0)
    first = accepted.int().argmax(-1, keepdim=True)
    return d.log() + log_v.gather(-1, first)[..., 0] + uniforms[..., -1].log() / shape
