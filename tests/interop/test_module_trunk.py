"""Any nn.Module as the trunk of an objective; its batch norms by the batch, until they are given statistics."""

import copy

import attrs
import pytest
import torch
import torchvision
from timm.layers import BatchNormAct2d, DropPath
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.swin_transformer import ShiftedWindowAttention

from blocks import DinoHead, ProjectionMlp, Prototypes, key, to_module, tree, trunk_from_module, vit, with_statistics
from blocks.interop.from_module import from_module
from blocks.objectives.dino import DINO
from blocks.objectives.moco import MoCo
from blocks.objectives.monitored import Monitored
from blocks.objectives.simclr import SimCLR
from blocks.objectives.supervised import Supervised
from blocks.objectives.swav import SwAV
from blocks.optim.adamw import adamw
from blocks.optim.sgd import sgd
from blocks.train.step import init_state, make_step
from tests.interop.modules import Shifted, gradients, images, small

CLOSE = {"atol": 1e-5, "rtol": 1e-5}  # float32 sums in another order
HEAD = {"hidden_features": 8, "out_features": 6, "norm": "batch"}


def resnet():
    """torchvision's ResNet-10, without its classifier."""
    module = ResNet(BasicBlock, [1, 1, 1, 1])
    module.fc = nn.Identity()
    return module


class Several(nn.Module):
    """x -> what it makes of x, by name."""

    def forward(self, x):
        return {"features": x.flatten(1)[:, :4]}


def test_params_are_the_module_s_parameters_and_start_as_they_are():
    module = small()
    model = trunk_from_module(module, 4, ProjectionMlp(4, **HEAD))
    leaves = tree.flatten(model.init(key(0)))
    assert {name for name in leaves if not name.startswith("head")} == dict(module.named_parameters()).keys()
    assert all(torch.equal(leaves[name], leaf) for name, leaf in module.named_parameters())


def test_values_and_gradients_are_the_module_s_in_training_mode_and_nothing_is_changed():
    module = small()
    model, before = trunk_from_module(module, 4), copy.deepcopy(module.state_dict())
    params = model.init(key(0))
    x = images()
    found = model.features(params, x)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    torch.testing.assert_close(found, module.train()(x), **CLOSE)
    assert torch.equal(found, model.features(params, x))
    grads = gradients(model, params, x)
    module(x).square().mean().backward()
    for name, p in module.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, **CLOSE)


def test_a_norm_that_stands_in_two_places_takes_the_batch_s_moments_in_both():
    norm = nn.BatchNorm2d(4)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, x = trunk_from_module(module, 4), images()
    torch.testing.assert_close(model.features(model.init(key(0)), x), module.train()(x), **CLOSE)


def test_a_constant_of_two_parts_is_there_in_both():
    module = nn.Sequential(small(), Shifted(), Shifted())
    module[2].table = module[1].table
    model, x = trunk_from_module(module, 4), images()
    params = model.init(key(0))
    torch.testing.assert_close(model.features(params, x), module.train()(x), **CLOSE)
    assert model.features(with_statistics(model, params, [x]), x).isfinite().all()


@pytest.mark.parametrize("batches", [1, 3])
def test_with_statistics_it_is_the_module_in_evaluation_mode(batches):
    """Of one batch they are torch's own, with momentum 1; of several those of all their pixels together."""
    module, x = small(), images(6 * batches)
    model = trunk_from_module(module, 4, ProjectionMlp(4, **HEAD))
    params = with_statistics(model, model.init(key(0)), x.chunk(batches))
    module[1].momentum = 1.0
    module.train()(x)
    leaves = {name: leaf for name, leaf in tree.flatten(params).items() if not name.startswith("head")}
    for name in ("1.running_mean", "1.running_var"):
        torch.testing.assert_close(leaves[name], module.state_dict()[name], **CLOSE)
    module.load_state_dict(leaves, strict=False)
    assert torch.equal(model.features(params, x), module.eval()(x))
    torch.testing.assert_close(model.features(params, x)[:1], model.features(params, x[:1]), **CLOSE)


def test_statistics_of_deep_layers_are_of_what_reaches_them():
    module, x = resnet(), images(4, 32)
    model = trunk_from_module(module, 512)
    params = with_statistics(model, model.init(key(0)), [x])
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    module.train()(x)
    leaves = tree.flatten(params)
    for name, buffer in module.named_buffers():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(leaves[name], buffer, atol=1e-4, rtol=1e-4)


OBJECTIVES = {
    "swav": lambda: SwAV(trunk_from_module(resnet(), 512, ProjectionMlp(512, **HEAD)), (Prototypes(6, 5),)),
    "moco": lambda: MoCo(trunk_from_module(resnet(), 512, ProjectionMlp(512, **HEAD)), queue_size=8, dim=6),
    "dino": lambda: DINO(trunk_from_module(resnet(), 512, DinoHead(512, 7, 10, 6))),
    "simclr, watched": lambda: Monitored(
        SimCLR(trunk_from_module(resnet(), 512, ProjectionMlp(512, **HEAD))), num_classes=3
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_train_a_resnet(name):
    """Two steps: every parameter moves, and nothing but parameters is there to be moved."""
    objective = OBJECTIVES[name]()
    optimizer = sgd(0.1)
    state = init_state(objective, optimizer, key(0))
    before, step = tree.clone(state.params), make_step(objective, optimizer, clip_norm=1.0, donate=True)
    for number in range(2):
        batch = {"crops.0": torch.randn(4, 2, 3, 32, 32), "crops.1": torch.randn(4, 1, 3, 16, 16)}
        state, metrics = step(state, batch | {"labels": torch.arange(4) % 3})
        assert metrics["loss"].isfinite()
        assert state.step == number + 1
        assert not state.skipped
    moved = {n: not torch.equal(t, tree.flatten(before)[n]) for n, t in tree.flatten(state.params).items()}
    still = [name for name, has_moved in moved.items() if not has_moved and name != "head.layers.1.bias"]
    assert not still
    assert not any("running" in name for name in moved)


def drops():
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.1))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (drops(), "1 is a Dropout that drops at rate 0.1"),
        (nn.Sequential(DropPath(0.2)), "0 is a DropPath that drops at rate 0.2"),
        (nn.Sequential(torchvision.ops.StochasticDepth(0.3, "row")), "0 is a StochasticDepth that drops at rate 0.3"),
        (nn.MultiheadAttention(4, 2, dropout=0.4), "is a MultiheadAttention that drops at rate 0.4"),
        (nn.Sequential(nn.LSTM(4, 4, 2, dropout=0.5)), "0 is a LSTM that drops at rate 0.5"),
        (ShiftedWindowAttention(4, [2, 2], [0, 0], 2, dropout=0.6), "is a ShiftedWindowAttention .* rate 0.6"),
        (ShiftedWindowAttention(4, [2, 2], [0, 0], 2, attention_dropout=0.7), "is a .* rate 0.7"),
        (nn.Sequential(BatchNormAct2d(4)), "0 is a BatchNormAct2d, whose running statistics nothing would move"),
        (spectral_norm(nn.Linear(4, 4)), "is a _SpectralNorm, whose running statistics nothing would move"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "InstanceNorm2d, whose running statistics"),
        (nn.ModuleDict({"head": nn.Linear(2, 2)}), r'parameters below "head".*or give nn.Sequential\(module\)'),
    ],
)
def test_what_would_be_silently_wrong_is_an_error(module, message):
    with pytest.raises(ValueError, match=message):
        trunk_from_module(module, 4)


def test_features_of_another_shape_are_an_error_that_says_both():
    model = trunk_from_module(ResNet(BasicBlock, [1, 1, 1, 1]), 512)
    with pytest.raises(ValueError, match=r"gives \[2, 1000\], and features of embed_dim 512 are \[2, 512\]; replace"):
        model.features(model.init(key(0)), images(2, 32))
    several = trunk_from_module(Several(), 4)
    with pytest.raises(ValueError, match=r"gives dict, and features of embed_dim 4 are \[2, 4\]"):
        several.features(several.init(key(0)), images(2))


def test_statistics_of_nothing_or_of_another_trunk_are_an_error():
    model = trunk_from_module(small(), 4)
    with pytest.raises(ValueError, match="no batch to take statistics of"):
        with_statistics(model, model.init(key(0)), [])
    other = vit(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="a ViT has no statistics"):
        with_statistics(other, other.init(key(0)), [images()])


def classified():
    return nn.Sequential(*small()[:-1], nn.Linear(4, 3))


def test_a_module_block_with_statistics_is_trained_only_with_them_held_fast():
    block, params = from_module(classified())
    leaves = tree.flatten(tree.map(torch.clone, params))
    leaves["1.running_var"].requires_grad_()
    with pytest.raises(ValueError, match=r"1\.running_var and so on are buffers.*frozen=block\.buffer_names"):
        block(tree.unflatten(leaves), images())
    objective, optimizer = Supervised(block), adamw(0.1, weight_decay=0.5)
    knobs = {"frozen": block.buffer_names}
    state, step = init_state(objective, optimizer, key(0), **knobs), make_step(objective, optimizer, **knobs)
    batch = {"images": images(), "labels": torch.arange(6) % 3}
    state, _ = step(state, batch)
    moved = {
        name for name, leaf in tree.flatten(state.params).items() if not torch.equal(leaf, tree.flatten(params)[name])
    }
    assert moved == tree.flatten(params).keys() - set(block.buffer_names)


def test_statistics_are_not_trained_where_params_hold_them():
    model = trunk_from_module(small(), 4)
    params = with_statistics(model, model.init(key(0)), [images()])
    with pytest.raises(ValueError, match=r"1\.running_mean, 1\.running_var and so on are buffers, 2 in all"):
        gradients(model, params, images())


@pytest.mark.parametrize("whole", [True, False])
def test_as_a_module_again_it_is_trained_but_for_what_were_buffers(whole):
    model = trunk_from_module(small(), 4)
    block, params = from_module(small()) if whole else (model, with_statistics(model, model.init(key(0)), [images()]))
    module = to_module(block, params)
    assert module.state_dict().keys() == tree.flatten(params).keys()
    module(images()).square().mean().backward()
    moved = {name for name, p in module.named_parameters() if p.grad is not None}
    assert moved == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(module(images(2)), block(params, images(2)))


def test_it_is_equal_to_itself_evolved():
    model = trunk_from_module(small(), 4)
    assert attrs.evolve(model, head=None) == model
