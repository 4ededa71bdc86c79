"""What every block promises, for every block there is."""

import importlib
import pickle
import pkgutil

import attrs
import pytest
import torch

import blocks
from blocks import Block, key, tree
from blocks.random import per_sample
from tests import block_table
from tests.block_table import TABLE
from tests.torch_versions import OLDEST

every_block = pytest.mark.parametrize("name", TABLE)
random_blocks = pytest.mark.parametrize("name", [name for name, case in TABLE.items() if case.random])


def start(name):
    case = TABLE[name]
    block = case.make()
    return block, noisy(block.init(key(0))), case.input(), case.options


def noisy(params):
    """Params with no zero left, so that nothing is equal for being multiplied by one."""
    generator = torch.Generator().manual_seed(1)
    return tree.map(lambda p: p + 0.1 * torch.randn(p.shape, generator=generator), params)


def blocks_of_the_library():
    """Every Block class written in the package, public or not."""
    for module in pkgutil.walk_packages(blocks.__path__, "blocks."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, Block) and value.__module__ == module.name:
                    yield value


def values_inside(value):
    yield value
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from values_inside(getattr(value, field.name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from values_inside(item)


def test_no_block_is_missing_from_the_table():
    in_library = {block.__name__ for block in blocks_of_the_library()} - {"Block"}
    assert in_library == set(TABLE)
    assert all(type(case.make()).__name__ == name for name, case in TABLE.items())


@every_block
def test_it_is_frozen_hashable_equal_to_its_twin_and_holds_no_tensor(name):
    block, twin = TABLE[name].make(), TABLE[name].make()
    assert block == twin
    assert hash(block) == hash(twin)
    assert not any(isinstance(value, (torch.Tensor, dict, list)) for value in values_inside(block))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        block.anything = 1


@pytest.mark.parametrize("name", [name for name in TABLE if not name.startswith("Module")])  # torch makes those
def test_params_start_as_float32_whatever_torch_s_default_is(name):
    block = TABLE[name].make()
    expected = tree.flatten(block.init(key(0)))
    torch.set_default_dtype(torch.float64)
    try:
        found = tree.flatten(block.init(key(0)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(leaf.dtype == torch.float32 and torch.equal(leaf, expected[n]) for n, leaf in found.items())


@every_block
def test_it_survives_pickling(name):
    block = TABLE[name].make()
    assert pickle.loads(pickle.dumps(block)) == block


@every_block
def test_its_params_bear_the_names_of_the_table(name):
    params = TABLE[name].make().init(key(0))
    assert tuple(tree.flatten(params)) == TABLE[name].names


@every_block
def test_the_same_key_gives_the_same_params_and_another_key_others(name):
    block = TABLE[name].make()
    first, again, other = (list(tree.flatten(block.init(key(seed))).values()) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    constant = ("BatchNorm", "LayerNorm", "LayerScale", "MeanPool")
    assert name in constant or not first or any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@every_block
def test_params_can_be_shaped_without_being_computed(name):
    block = TABLE[name].make()
    shapes, params = tree.flatten(block.init(key(0, device="meta"))), tree.flatten(block.init(key(0)))
    assert {n: (t.shape, t.dtype) for n, t in shapes.items()} == {n: (t.shape, t.dtype) for n, t in params.items()}


@every_block
def test_without_a_key_it_is_deterministic(name):
    block, params, x, options = start(name)
    assert torch.equal(block(params, x, **options), block(params, x, **options))


@every_block
def test_the_same_key_gives_the_same_output(name):
    block, params, x, options = start(name)
    assert torch.equal(block(params, x, key=key(1), **options), block(params, x, key=key(1), **options))


@every_block
def test_a_key_matters_where_the_block_is_random_and_only_there(name):
    block, params, x, options = start(name)
    outputs = [block(params, x, key=k, **options) for k in (None, key(1), key(2))]
    same = [torch.equal(outputs[0], outputs[1]), torch.equal(outputs[1], outputs[2])]
    assert same == [not TABLE[name].random] * 2


@random_blocks
def test_a_sample_drops_the_same_in_any_batch(name):
    """Masks are functions of the sample's key: half the batch with its keys gives half the output."""
    block, params, x, options = start(name)
    keys = per_sample(key(3), x.shape[0])
    whole = block(params, x, key=keys, **options)
    parts = [block(params, x[part], key=keys[part], **options) for part in (slice(0, 1), slice(1, None))]
    torch.testing.assert_close(whole, torch.cat(parts))
    torch.testing.assert_close(whole, block(params, x, key=key(3), **options))


@every_block
def test_torch_s_global_random_state_is_left_alone(name):
    before = torch.random.get_rng_state()
    block, params, x, options = start(name)
    block(params, x, key=key(1), **options)
    assert torch.equal(before, torch.random.get_rng_state())


@every_block
def test_neither_params_nor_input_are_changed(name):
    block, params, x, options = start(name)
    params_before, x_before = tree.clone(params), x.clone()
    block(params, x, key=key(1), **options)
    assert torch.equal(x, x_before)
    assert all(torch.equal(leaf, tree.flatten(params)[n]) for n, leaf in tree.flatten(params_before).items())


@every_block
@pytest.mark.parametrize("a_key", [None, key(1)], ids=["without a key", "with a key"])
def test_vmap_over_params_is_a_loop_over_params(name, a_key):
    block, params, x, options = start(name)
    if not tree.flatten(params):
        pytest.skip("a block without params has none to map over")
    if name == "Checkpointed" and OLDEST:
        pytest.skip("torch 2.11 maps no checkpointed function")
    other = noisy(block.init(key(1)))
    stacked = tree.map(lambda a, b: torch.stack((a, b)), params, other)
    mapped = torch.func.vmap(lambda p: block(p, x, key=a_key, **options))(stacked)
    loop = torch.stack([block(p, x, key=a_key, **options) for p in (params, other)])
    torch.testing.assert_close(mapped, loop, rtol=1e-4, atol=1e-5)


@every_block
def test_every_param_gets_a_gradient(name):
    block, params, x, options = start(name)
    leaves = tree.map(lambda p: p.requires_grad_(), params)
    names = tree.flatten(leaves)
    if names:
        grads = torch.autograd.grad(block(leaves, x, **options).square().sum(), list(names.values()))
        untouched = {n for n, g in zip(names, grads, strict=True) if not g.any()}
        assert all(n.endswith("pos_proj.bias") for n in untouched)  # it cancels in the softmax


@attrs.frozen
class Halved(Block):
    """Half of another, which says nothing of keys."""

    inner: Block

    def __call__(self, params, x, *, grid=None, keep=None, key=None):
        return self.inner(params["inner"], x) / 2


def test_a_block_that_says_nothing_of_keys_may_be_part_of_a_model():
    model = blocks.vit(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=3)
    layers = tuple(attrs.evolve(layer, mlp=Halved(layer.mlp)) for layer in model.trunk.blocks)
    model = attrs.evolve(model, trunk=attrs.evolve(model.trunk, blocks=layers))
    images = torch.rand(2, 3, 8, 8)
    params = model.init(key(0))
    assert model(params, images, key=key(1)).equal(model(params, images))
    assert model.is_random


def test_the_table_s_inputs_do_not_wander():
    assert all(torch.equal(make(), make()) for make in (block_table.features, block_table.tokens, block_table.images))
