import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from blocks import ClassToken, ProjectionMlp, checkpointed, convit, key, to_module, tree
from tests.block_table import TABLE

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2, "depth": 2}


@pytest.fixture
def model():
    return convit(**TINY, local_up_to_layer=1, drop_path_rate=0.5)


@pytest.fixture
def params(model):
    return model.init(key(0))


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients(model, params, images, **options):
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    named = tree.flatten(leaves)
    loss = model(leaves, images, **options).square().mean()
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_every_block_is_a_module_of_the_same_names_values_and_outputs(name):
    case = TABLE[name]
    block = case.make()
    block_params = block.init(key(0))
    module = to_module(block, block_params).eval()
    expected = {n or "value": t for n, t in tree.flatten(block_params).items()}
    assert module.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[n]) for n, t in module.state_dict().items())
    x = case.input()
    assert torch.equal(module(x, **case.options), block(block_params, x, **case.options))


def test_the_module_has_its_own_copy(model, params):
    module = to_module(model, params)
    before = tree.clone(params)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1)
    assert all(torch.equal(t, tree.flatten(before)[n]) for n, t in tree.flatten(params).items())


def test_encoder_layers_are_modules_of_their_own(model, params, images):
    module = to_module(model, params).eval()
    tokens = torch.randn(2, 4, 8)
    for number, layer in enumerate(module.blocks):
        expected = model.trunk.blocks[number](params["blocks"][str(number)], tokens, grid=(2, 2))
        assert torch.equal(layer(tokens, grid=(2, 2)), expected)
    calls = []
    module.blocks[-1].register_forward_pre_hook(lambda layer, inputs: calls.append(inputs[0].shape))
    module(images)
    assert calls == [(4, 5, 8)]


def test_checkpointed_layers_are_called_too(model, params, images):
    module, calls = to_module(checkpointed(model), params), []
    module.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    module(images, key=key(1)).square().mean().backward()
    assert calls == [1]  # what is made again lies inside
    expected = gradients(model, params, images, key=key(1))
    assert all(torch.equal(p.grad, expected[n]) for n, p in module.named_parameters())


def test_its_gradients_are_the_functional_ones(model, params, images):
    module = to_module(model, params).eval()
    module(images).square().mean().backward()
    expected = gradients(model, params, images)
    assert all(torch.equal(p.grad, expected[n]) for n, p in module.named_parameters())


def test_training_draws_from_torch_s_generator_and_evaluation_draws_nothing(model, params, images):
    module = to_module(model, params)
    torch.manual_seed(0)
    first, second = module(images), module(images)
    torch.manual_seed(0)
    assert torch.equal(first, module(images))
    assert not torch.equal(first, second)
    state = torch.random.get_rng_state()
    assert torch.equal(module.eval()(images), model(params, images))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_block_that_drops_nothing_draws_nothing_in_training(images):
    model = convit(**TINY, local_up_to_layer=1)
    module, state = to_module(model, model.init(key(0))), torch.random.get_rng_state()
    module(images)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_key_can_be_given(model, params, images):
    assert torch.equal(to_module(model, params)(images, key=key(5)), model(params, images, key=key(5)))


def test_state_dicts_load_and_mismatches_are_refused(model, params):
    module = to_module(model, params)
    other = tree.flatten(model.init(key(1)))
    module.load_state_dict(other)
    assert all(torch.equal(p, other[n]) for n, p in module.named_parameters())
    with pytest.raises(RuntimeError, match=r"norm\.bias"):
        module.load_state_dict({n: t for n, t in other.items() if n != "norm.bias"})


def test_frozen_parts_get_no_gradient(model, params, images):
    module = to_module(model, params)
    module.patch_embed.requires_grad_(False)
    module(images).sum().backward()
    assert all((p.grad is None) == n.startswith("patch_embed") for n, p in module.named_parameters())


def test_it_trains_under_torch_s_optimizer(model, params, images):
    module = to_module(model, params).eval()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(images).square().mean().backward()
    optimizer.step()
    grads, start = gradients(model, params, images), tree.flatten(params)
    for name, p in module.named_parameters():
        torch.testing.assert_close(p, start[name] - 0.1 * grads[name])


def test_copies_and_pickles_are_equal_and_independent(model, params, images):
    module = to_module(model, params).eval()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(images), module(images))
        with torch.no_grad():
            twin.head.bias.add_(1)
        assert not torch.equal(twin(images), module(images))


def test_it_moves_and_casts_like_any_module(model, params, images):
    module = to_module(model, params).double().eval()
    assert module(images.double()).dtype == torch.float64


def test_integers_are_buffers():
    memory = {"queue": {"rows": torch.zeros(2), "next": torch.tensor(3)}}
    module = to_module(ClassToken(2), memory)
    assert [n for n, _ in module.named_buffers()] == ["queue.next"]


def test_running_moments_in_params_are_buffers():
    head = ProjectionMlp(4, 8, 2, norm="batch")
    norm = {"weight": torch.rand(8), "bias": torch.rand(8), "running_mean": torch.rand(8), "running_var": torch.rand(8)}
    params = {**head.init(key(0)), "norms": {"0": norm}}
    module = to_module(head, params)
    assert [n for n, _ in module.named_buffers()] == ["norms.0.running_mean", "norms.0.running_var"]
    assert module.state_dict().keys() == tree.flatten(params).keys()
    assert torch.equal(module(torch.ones(1, 4)), head(params, torch.ones(1, 4)))


def test_it_compiles_whole(model, params, images):
    """In training mode, first with a key given, then with one drawn: forward and backward, without a graph break."""
    module = to_module(model, params)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images, key=key(1)), module(images, key=key(1)))
    compiled(images).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_under_data_parallel_it_gives_the_functional_gradients(model, params, images, one_process):
    wrapped = DistributedDataParallel(to_module(model, params))
    wrapped(images, key=key(1)).square().mean().backward()
    expected = gradients(model, params, images, key=key(1))
    for name, p in wrapped.module.named_parameters():
        torch.testing.assert_close(p.grad, expected[name])
    wrapped(images).square().mean().backward()  # with a key of its own
