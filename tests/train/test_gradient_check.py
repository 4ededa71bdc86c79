"""The gradient check finds wrong gradients and passes right ones."""

import attrs
import pytest
import torch

from blocks.block import Block
from blocks.objectives.supervised import Supervised
from blocks.random import key, normal
from blocks.train.gradient_check import check_gradients
from blocks.trunks.convit import convit
from tests.train.small_problem import Remembering, batch_of


def smooth():
    """A ConViT with everything that drops, in an objective with a memory."""
    model = convit(
        img_size=8, patch_size=4, num_classes=5, embed_dim=8, depth=2, num_heads=2, local_up_to_layer=1,
        drop_path_rate=0.3, proj_drop_rate=0.1,
    )  # fmt: skip
    return Remembering(Supervised(model, 0.1))


def test_a_convit_s_gradient_is_right_to_many_digits():
    objective = smooth()
    params, memory = objective.init(key(0))
    batch = {"images": normal(key(1), (4, 3, 8, 8)), "labels": torch.arange(4)}
    assert 0 < check_gradients(objective, params, memory, batch, key(2), directions=2) < 1e-7
    assert params["head"]["weight"].dtype == batch["images"].dtype == torch.float32


class Wrong(torch.autograd.Function):
    """x**2 with a gradient that is off by 1 %."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return 2.02 * ctx.saved_tensors[0] * grad


@attrs.frozen
class Flawed(Block):
    """Images [B, 3, 2, 2] -> logits [B, 5], wrong in a scalar beside a matrix."""

    def init(self, key):
        return {"large": {"weight": 0.1 * normal(key, (12, 5))}, "small": torch.tensor(1.5)}

    def __call__(self, params, x, *, key=None):
        return (x.flatten(1) @ params["large"]["weight"]).sin() * Wrong.apply(params["small"])


def test_a_wrong_gradient_of_one_scalar_is_found_and_named():
    objective = Supervised(Flawed())
    params, memory = objective.init(key(0))
    with pytest.raises(ValueError, match=r"off by .*tolerance 1e-06.*worst: small -?[\d.]+, differences -?[\d.]+; "):
        check_gradients(objective, params, memory, batch_of(), key(2))
    assert check_gradients(objective, params, memory, batch_of(), key(2), tolerance=0.02) > 1e-4


def test_a_gradient_that_is_not_a_number_is_found():
    objective = Supervised(Flawed())
    params, memory = objective.init(key(0))
    params["small"] = torch.tensor(torch.nan)
    with pytest.raises(ValueError, match="off by nan"):
        check_gradients(objective, params, memory, batch_of(), key(2))


def test_along_no_direction_nothing_is_checked():
    with pytest.raises(ValueError, match="directions 0 is not a count"):
        check_gradients(Torn(9), {"a": torch.ones(3)}, {}, {}, key(2), directions=0)


class Torn:
    """A sum of squares that is not a number where it is asked for the n-th time."""

    def __init__(self, n):
        self.left = n

    def loss(self, params, memory, batch, key):
        self.left -= 1
        square = params["a"].square().sum()
        return square if self.left else square * torch.nan, {}, {}


@pytest.mark.parametrize("n", [2, 4, 6])
def test_a_loss_that_is_not_a_number_along_any_direction_is_found(n):
    """One call for the gradient, then two a direction; the next are for the complaint."""
    with pytest.raises(ValueError, match="off by nan"):
        check_gradients(Torn(n), {"a": torch.ones(3)}, {}, {}, key(2))
    assert check_gradients(Torn(8), {"a": torch.ones(3)}, {}, {}, key(2)) < 1e-9
