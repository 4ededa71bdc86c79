"""Encoder layers compiled one by one."""

import pytest
import torch

from blocks import convit, key, tree, vit
from blocks.layers.compiled import Compiled, compiled_layers
from blocks.layers.linear import Linear
from blocks.objectives.supervised import Supervised

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 16, "num_heads": 2, "depth": 5}


def test_layers_that_are_alike_share_a_compilation_and_numbers_and_params_stay():
    backend, compilations = counted()
    plain = Supervised(convit(**TINY, local_up_to_layer=3, drop_path_rate=0.3))
    layered, params = compiled_layers(plain, backend), plain.model.init(key(0))
    assert tree.flatten(layered.model.init(key(0))).keys() == tree.flatten(params).keys()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = {"images": images, "labels": torch.arange(4)}
    leaves = tree.map(lambda p: p.detach().requires_grad_(), params)
    losses = [objective.loss(leaves, {}, batch, key(1))[0] for objective in (plain, layered)]
    one, other = (torch.autograd.grad(loss, tree.leaves(leaves)) for loss in losses)
    assert torch.equal(*losses)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(isinstance(layer, Compiled) for layer in layered.model.trunk.blocks)
    assert len(compilations) == 3  # GPSA with and without drop path, attention


def counted():
    """(a backend that computes as PyTorch does, the graphs that it was given)."""
    graphs = []
    return lambda graph, _: graphs.append(graph) or graph.forward, graphs


def attention_layer():
    """(an encoder layer, its params)."""
    layer = vit(**TINY).trunk.blocks[0]
    return layer, layer.init(key(0))


def test_views_of_many_sizes_are_compiled_one_by_one():
    backend, graphs = counted()
    layer, params = attention_layer()
    (layered,) = compiled_layers((layer,), backend)
    for count in range(2, 12):
        x = torch.randn(2, count, 16, generator=torch.Generator().manual_seed(count))
        assert torch.equal(layered(params, x), layer(params, x))
        assert len(graphs) == count - 1


def test_models_in_one_process_do_not_count_each_other_s_compilations():
    layer, params = attention_layer()
    x = torch.ones(2, 5, 16)
    for _ in range(10):
        backend, graphs = counted()
        (layered,) = compiled_layers((layer,), backend)
        assert torch.equal(layered(params, x), layer(params, x))
        assert len(graphs) == 1


def test_without_layers_the_error_says_what_to_use():
    with pytest.raises(ValueError, match='Supervised has no encoder layers to compile; use compile="loss"'):
        compiled_layers(Supervised(Linear(2, 2)))
