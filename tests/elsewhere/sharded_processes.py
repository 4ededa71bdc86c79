"""What each of two gloo processes computes for test_sharded.py, of modules of ours that are wrapped and of a trunk."""

import torch
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from blocks import convit, key, to_module, tree, trunk_from_module, with_statistics
from blocks.random import normal
from tests.interop import modules
from tests.two_processes import share

MODEL = convit(img_size=8, patch_size=4, num_classes=5, embed_dim=8, num_heads=2, depth=3, local_up_to_layer=1)
LR = 0.1


def module():
    return to_module(MODEL, MODEL.init(key(0)))


def images():
    return normal(key(1), (4, 3, 8, 8))


def loss_of(output):
    return output.square().mean()


def ddp():
    return DistributedDataParallel(module())


def whole():
    return fully_shard(module())


def by_layer():
    found = module()
    for layer in found.blocks:
        fully_shard(layer)
    return fully_shard(found)


WRAPPED = {"ddp": ddp, "fsdp of the whole": whole, "fsdp layer by layer": by_layer}


def full(tensor):
    """A sharded tensor put together again."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def step(wrapped, x):
    """(loss, gradients by name, outputs after an update by SGD), of this process's images."""
    optimizer = torch.optim.SGD(wrapped.parameters(), LR)
    loss = loss_of(wrapped(x))
    loss.backward()
    grads = {name.removeprefix("module."): full(p.grad) for name, p in wrapped.named_parameters()}
    optimizer.step()
    return {"loss": loss.detach(), "grads": grads, "after": wrapped(x).detach()}


def features():
    """Tokens by a method beside `forward`, as FSDP2 wants it registered; and how many numbers lie on this process."""
    sharded = by_layer()
    register_fsdp_forward_method(sharded, "forward_features")
    here = sum(p.to_local().numel() for p in sharded.parameters())
    return {"tokens": sharded.forward_features(images()).detach(), "here": torch.tensor(here)}


def trunk(x):
    """Of a module with batch norm under the same weights everywhere: features, gradients, statistics of images x."""
    torch.manual_seed(0)
    model = trunk_from_module(modules.small(), 4)
    params = model.init(key(0))
    statistics = with_statistics(model, params, [x])
    return {"features": model.features(params, x), "grads": modules.gradients(model, params, x), "all": statistics}


def work(rank):
    """One process: every wrapping by name, flat."""
    found = {name: step(wrap(), share(images(), rank)) for name, wrap in WRAPPED.items()}
    found |= {"sharded features": features(), "trunk": trunk(share(modules.images(), rank))}
    return {name: {n: t.detach() for n, t in tree.flatten(value).items()} for name, value in found.items()}
