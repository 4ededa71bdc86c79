import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torchvision
from torch import nn

from blocks import key, tree
from blocks.interop.from_module import ModuleBlock, from_module


class Tied(nn.Module):
    """Two layers that share one weight, with a buffer that no state_dict holds."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("offset", torch.full((4,), 2.0), persistent=False)

    def forward(self, x):
        return self.b(self.a(x)) + self.offset


def normed():
    """A module that draws and counts in training mode."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5))


def trained(module):
    """With running statistics of its own."""
    with torch.no_grad():
        for _ in range(3):
            module.train()(1 + 2 * torch.randn(16, 3, 8, 8))
    return module


def test_it_gives_the_module_s_values_in_evaluation_mode_and_changes_nothing():
    module, x = trained(normed()), torch.randn(4, 3, 8, 8)
    before = copy.deepcopy(module.state_dict())
    block, params = from_module(module)
    expected_params = tree.clone(params)
    assert module.training
    y = block(params, x)
    assert torch.equal(y, copy.deepcopy(module).eval()(x))
    assert torch.equal(block(params, x, key=key(1)), y)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    assert all(torch.equal(t, tree.flatten(params)[n]) for n, t in tree.flatten(expected_params).items())
    assert tree.flatten(params).keys() == module.state_dict().keys()


def test_params_are_a_copy_and_init_gives_the_same():
    module = normed()
    block, params = from_module(module)
    with torch.no_grad():
        module[0].weight.add_(1)
    assert not torch.equal(params["0"]["weight"], module[0].weight)
    assert torch.equal(block.init(key(5))["0"]["weight"], params["0"]["weight"])


def test_shared_weights_are_one_param_and_hidden_buffers_come_along():
    module, x = Tied(), torch.randn(3, 4)
    block, params = from_module(module)
    assert tree.flatten(params).keys() == {"a.weight", "a.bias", "b.bias", "offset"}
    assert torch.equal(block(params, x), module(x))


@pytest.mark.parametrize(
    "make", [torchvision.models.resnet18, torchvision.models.regnet_y_400mf, lambda: timm.create_model("convit_tiny")]
)
def test_published_models_come_through_whole(make):
    module, x = make(), torch.randn(1, 3, 224, 224)
    block, params = from_module(module)
    with torch.no_grad():
        torch.testing.assert_close(block(params, x), module.eval()(x), rtol=0, atol=0)
    assert not any(p.device.type != "meta" for p in block.skeleton.parameters())


def test_gradients_are_the_module_s():
    module, x = normed().eval(), torch.randn(2, 3, 8, 8)
    block, params = from_module(module)
    named, leaves = dict(module.named_parameters()), tree.flatten(params)
    wanted = [leaves[n].requires_grad_() for n in named]
    found = torch.autograd.grad(block(params, x).square().sum(), wanted)
    expected = torch.autograd.grad(module(x).square().sum(), list(named.values()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_start_follows_from_the_key_and_leaves_torch_s_generator_alone():
    before = torch.random.get_rng_state()
    block = ModuleBlock(normed)
    first, again, other = (block.init(key(seed))["0"]["weight"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std() == pytest.approx(27**-0.5 / 3**0.5, rel=0.25)  # nn.Conv2d's own start
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_module_with_weights_survives_pickling():
    block, params = from_module(normed())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(block))(params, x), block(params, x))


class Slow(nn.Module):
    """x w w, slowly."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        y = x * self.weight
        time.sleep(0.05)
        return y * self.weight


def test_threads_may_call_it_with_params_of_their_own():
    block, _ = from_module(Slow())
    weights = [torch.tensor(float(i)) for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda weight: block({"weight": weight}, torch.ones(1)), weights))
    assert torch.cat(found).tolist() == [0, 1, 4, 9]


class Keeping(nn.Module):
    """x w, with a w that evaluation keeps, as timm's LeViT keeps its attention biases."""

    def __init__(self):
        super().__init__()
        self.weight, self.kept = nn.Parameter(torch.ones(())), None

    def train(self, mode=True):
        self.kept = None if mode else self.kept
        return super().train(mode)

    def forward(self, x):
        self.kept = self.weight * 1 if self.kept is None else self.kept
        return x * self.kept


@pytest.mark.parametrize("backend", [None, "eager"])
def test_what_a_part_keeps_in_evaluation_is_not_another_call_s(backend):
    module = nn.Sequential(Keeping()).eval()
    with torch.no_grad():
        module(torch.ones(1))
    block, params = from_module(module)
    function = block if backend is None else torch.compile(block.__call__, backend=backend, fullgraph=True)
    for weight in (2.0, 3.0):
        params["0"]["weight"] = torch.tensor(weight, requires_grad=True)
        y = function(params, torch.ones(1))
        assert y.item() == weight
        assert torch.autograd.grad(y, params["0"]["weight"])[0] == 1
    copy.deepcopy(block)
