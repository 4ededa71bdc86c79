"""A module of ours that is changed as torch's are: another head, parametrized weights; else an error, never silence."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize

import blocks

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 4, "num_classes": 3}
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HEADS = {
    "linear": lambda: nn.Linear(8, 7),
    "mlp": lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 7)),
    "none": nn.Identity,
}


def made(**knobs):
    model = blocks.vit(**TINY | knobs)
    return blocks.to_module(model, model.init(blocks.key(0))).eval()


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("head", HEADS)
def test_another_head_is_called_on_the_features(head, num_classes):
    module = made(num_classes=num_classes)
    features = module.forward_head(module.forward_features(X), pre_logits=True)
    module.head = HEADS[head]()
    expected = module.head(features)
    calls = []
    module.head.register_forward_hook(lambda *_: calls.append(1))
    for found in (module(X), module.forward_head(module.forward_features(X)), copy.deepcopy(module)(X)):
        torch.testing.assert_close(found, expected)
    assert len(calls) == 3


def test_another_head_is_trained():
    module = made()
    module.head = nn.Linear(8, 7)
    module(X).square().sum().backward()
    assert module.head.weight.grad.abs().sum() > 0
    assert module.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_both_heads_of_a_distilled_model_can_be_others():
    model = blocks.distilled(blocks.vit(**TINY))
    module = blocks.to_module(model, model.init(blocks.key(0)))
    tokens = module.forward_features(X)
    module.head, module.head_dist = nn.Linear(8, 7), nn.Linear(8, 7)
    expected = (module.head(tokens[:, 0]) + module.head_dist(tokens[:, 1])) / 2
    torch.testing.assert_close(module(X), expected)


class LowRank(nn.Module):
    def __init__(self, rows, columns):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(rows, 1)), nn.Parameter(torch.ones(1, columns))

    def forward(self, weight):
        return weight + self.a @ self.b


def test_a_parametrized_weight_is_what_is_computed_with_and_trained():
    """LoRA, as torch parametrizes a weight."""
    module, other = made(), made()
    qkv = module.blocks[0].attn.qkv
    parametrize.register_parametrization(qkv, "weight", LowRank(24, 8))
    with torch.no_grad():
        other.blocks[0].attn.qkv.weight += 1
    torch.testing.assert_close(module(X), other(X))
    module(X).square().sum().backward()
    assert qkv.parametrizations.weight[0].a.grad.abs().sum() > 0
    assert qkv.parametrizations.weight.original.grad.abs().sum() > 0


def test_weight_norm_leaves_the_numbers():
    module, other = made(), made()
    parametrizations.weight_norm(module.head, "weight")
    torch.testing.assert_close(module(X), other(X))


def test_a_checkpointed_layer_is_called():
    module, other = made(), made()
    module.blocks[0] = checkpoint_wrapper(module.blocks[0])
    torch.testing.assert_close(module(X), other(X))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("part", "name", "other"),
    [
        ("blocks.0.attn", "proj", lambda: Doubled(8, 8)),
        ("blocks.0.attn", "proj", lambda: nn.Sequential(nn.Linear(8, 8))),
        ("", "norm", lambda: nn.LayerNorm(8)),  # of another eps
        ("", "patch_embed", lambda: nn.Conv2d(3, 8, 4, 4)),
    ],
)
def test_another_module_whose_forward_nobody_calls_is_refused(part, name, other):
    module = made()
    setattr(module.get_submodule(part), name, other())
    with pytest.raises(ValueError, match=rf"{name} is a \w+, which nothing calls: .*parametrize.*\battrs\.evolve"):
        module(X)


def test_a_linear_layer_in_another_s_place_computes_alike():
    module, other = made(), made()
    qkv = nn.Linear(8, 24)
    qkv.load_state_dict(other.blocks[0].attn.qkv.state_dict())
    module.blocks[0].attn.qkv = qkv
    assert torch.equal(module(X), other(X))


def test_torchscript_is_not_offered_and_the_error_says_what_is():
    with pytest.raises(NotImplementedError, match=r"no TorchScript; blocks\.to_exported\(model, params, images\)"):
        torch.jit.script(made())
