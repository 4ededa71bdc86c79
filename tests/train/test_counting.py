"""FLOPs and what is kept for the backward pass, counted on the meta device: equal to those of a real pass."""

import pytest
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from blocks import convit, key, tree, vit
from blocks.layers.attention import Attention
from blocks.layers.linear import Linear
from blocks.objectives.supervised import Supervised
from blocks.train.counting import cost_of, layer_of, layers

SMALL = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 3, "num_heads": 2, "num_classes": 5}
MODELS = {"vit": vit(**SMALL), "convit": convit(**SMALL, local_up_to_layer=2)}


ON_A_CPU = {  # PyTorch counts its attention there from 2.15 on
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def real(model, batch):
    """(FLOPs, bytes that autograd keeps beside the params) of a forward pass that takes place, and those of both."""
    params = tree.map(lambda t: t.requires_grad_(), model.init(key(0)))
    there = {t.untyped_storage().data_ptr() for t in tree.leaves(params)}
    kept = {}

    def keep(x):
        if x.untyped_storage().data_ptr() not in there:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with (
        FlopCounterMode(display=False, custom_mapping=ON_A_CPU) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        loss = Supervised(model).loss(params, {}, batch, None)[0]
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False, custom_mapping=ON_A_CPU) as counter:
        torch.autograd.grad(loss, tree.leaves(params), allow_unused=True)
    return forward, counter.get_total_flops(), sum(x.untyped_storage().nbytes() for x in kept.values())


def batch_of(device="cpu"):
    labels = torch.arange(4, device=device) % 5
    return {"images": torch.ones(4, 3, 8, 8, device=device), "labels": labels}


@pytest.mark.parametrize("name", MODELS)
def test_a_loss_costs_what_a_real_one_does(name):
    model = MODELS[name]
    found = cost_of(lambda p: Supervised(model).loss(p, {}, batch_of("meta"), None)[0], model.init(key(0)))
    forward, backward, kept = real(model, batch_of())
    assert (found.forward, found.backward) == (forward, backward)
    assert found.kept == pytest.approx(kept, rel=0.02)  # scalars aside, which a device may keep or not


def test_frozen_params_cost_no_gradient():
    model = MODELS["vit"]
    params = model.init(key(0))
    loss = lambda p: model(p, torch.ones(4, 3, 8, 8, device="meta")).sum()  # noqa: E731
    head = cost_of(loss, params, {"head.weight", "head.bias"})
    assert head.forward == cost_of(loss, params).forward
    assert head.backward == 2 * 4 * 12 * 5
    assert head.kept < cost_of(loss, params).kept / 10


def test_attention_counts_in_every_version_of_pytorch():
    """Two products of all tokens with all forward, five backward, for the weights are made again."""
    width, tokens = 12, 17
    attention = Attention(width, 3)
    x = torch.empty(4, tokens, width, device="meta")
    cost = cost_of(lambda p: attention(p, x).sum(), attention.init(key(0)))
    linear, product = 2 * 4 * tokens * width**2, 2 * 4 * tokens**2 * width
    assert cost.forward == 4 * linear + 2 * product
    assert cost.backward == 5 * linear + 5 * product  # of 8 linear ones, three would be for x's gradient


def test_each_layer_has_its_share_in_the_params_order():
    model = MODELS["convit"]
    params = model.init(key(0))
    rows = {row.name: row for row in layers(model, params, torch.ones(4, 3, 8, 8))}
    assert list(rows) == ["patch_embed", "cls_token", "pos_embed", "blocks.0", "blocks.1", "blocks.2", "norm", "head"]
    assert sum(row.parameters for row in rows.values()) == tree.count(params)
    assert rows["patch_embed"].flops == 2 * 4 * 4 * (3 * 16) * 12
    assert rows["head"].flops == 2 * 4 * 12 * 5
    assert rows["blocks.0"].flops == rows["blocks.1"].flops > 0
    assert sum(row.flops for row in rows.values()) == real(model, batch_of())[0]


def test_an_op_without_params_counts_to_the_layer_before():
    class Two:
        def __call__(self, params, x):
            y = Linear(3, 3)(params["first"], x)
            return Linear(3, 2)(params["second"], (y @ y.mT) @ y)

    params = {"first": Linear(3, 3).init(key(0)), "second": Linear(3, 2).init(key(0))}
    first, second = layers(Two(), params, torch.ones(4, 3))
    assert (first.flops, second.flops) == (2 * 4 * 3 * 3 + 2 * (2 * 4 * 4 * 3), 2 * 4 * 3 * 2)


def test_names_of_layers():
    names = ["blocks.0.attn.qkv.weight", "head.weight", "cls_token", "layer1.0.conv1.weight", "norm.bias"]
    assert [layer_of(name) for name in names] == ["blocks.0", "head", "cls_token", "layer1.0", "norm"]


def test_inside_no_process_is_waited_for_and_afterwards_all_is_as_before():
    inside = []

    def loss(params):
        inside.append(dist.is_initialized())
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "is_initialized", lambda: True)
        with pytest.raises(ZeroDivisionError):
            cost_of(loss, {"a": torch.ones(1)})
        assert dist.is_initialized()
    assert inside == [False]
