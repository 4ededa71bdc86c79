"""A module with batch norm, constants of its own, and what is asked of it."""

import torch
from torch import nn

from blocks import tree


class Shifted(nn.Module):
    """x [B, 4] plus a table, in another order: buffers that nothing moves."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(4.0))
        self.register_buffer("places", torch.tensor([3, 2, 1, 0]))

    def forward(self, x):
        return (x + self.table)[:, self.places]


def small():
    """images -> [B, 4]: a convolution, a batch norm that does not start at 1 and 0, constants."""
    norm, draws = nn.BatchNorm2d(4), torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=draws)
        norm.bias.normal_(generator=draws)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Shifted())


def images(count=6, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def gradients(model, params, x):
    """By name, of the mean of the features' squares."""
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    loss = model.features(leaves, x).square().mean()
    return dict(zip(tree.flatten(leaves), torch.autograd.grad(loss, tree.leaves(leaves)), strict=True))
