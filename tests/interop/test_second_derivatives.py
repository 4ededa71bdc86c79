"""Forward mode and second derivatives of models: by any way the same numbers, and those of finite differences."""

import pytest
import torch
from torch.func import hessian, jacfwd, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

import blocks
from blocks import tree

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 4, "num_classes": 3}
DROPS = {"drop_path_rate": 0.3, "proj_drop_rate": 0.1, "attn_drop_rate": 0.1}
MODELS = {
    "vit": blocks.vit(**TINY, init_values=0.5),
    "vit that drops": blocks.vit(**TINY, **DROPS),
    "deit": blocks.distilled(blocks.vit(**TINY)),
    "convit": blocks.convit(**TINY, local_up_to_layer=1),
    "convit that drops": blocks.convit(**TINY, local_up_to_layer=1, **DROPS),
}
each_model = pytest.mark.parametrize("name", MODELS)
each_key = pytest.mark.parametrize("key", [None, blocks.key(1)], ids=["no key", "key"])


def made(name, key):
    """(images -> logits, images [2, 3, 8, 8] in float64, a direction)."""
    model = MODELS[name]
    params = tree.map(lambda p: p.double() + 0.1, model.init(blocks.key(0)))
    x, direction = blocks.random.normal(blocks.key(2), (2, 2, 3, 8, 8), torch.float64)
    return lambda images: model(params, images, key=key), x, direction


@each_key
@each_model
def test_forward_mode_gives_the_jacobian_of_reverse_mode(name, key):
    f, x, direction = made(name, key)
    value, slope = jvp(f, (x,), (direction,))
    step = 1e-6 * direction
    torch.testing.assert_close(value, f(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, (f(x + step) - f(x - step)) / 2e-6, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(jacfwd(f)(x), jacrev(f)(x), rtol=1e-10, atol=1e-12)


@each_key
@each_model
def test_second_derivatives_by_both_ways_agree(name, key):
    """torch.func.hessian is forward over reverse; reverse over reverse wants attention of plain operations."""
    f, x, direction = made(name, key)
    by_hessian = hessian(lambda images: f(images).square().sum())(x).flatten(4).flatten(0, 3) @ direction.flatten()
    leaf = x.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (grad,) = torch.autograd.grad(f(leaf).square().sum(), leaf, create_graph=True)
        (twice,) = torch.autograd.grad((grad * direction).sum(), leaf)
    torch.testing.assert_close(by_hessian.view_as(twice), twice, rtol=1e-9, atol=1e-10)


def test_a_gradient_of_each_sample():
    model = MODELS["convit"]
    params = model.init(blocks.key(0))
    images = torch.randn(3, 3, 8, 8)
    loss = lambda params, image: model(params, image[None]).square().sum()  # noqa: E731
    each = vmap(torch.func.grad(loss), (None, 0))(params, images)
    whole = torch.func.grad(lambda p: model(p, images).square().sum())(params)
    summed = tree.map(lambda g: g.sum(0), each)
    for name, leaf in tree.flatten(whole).items():
        torch.testing.assert_close(tree.flatten(summed)[name], leaf, rtol=1e-4, atol=1e-5)
