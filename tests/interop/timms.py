"""timm's models with nothing left at 0 or 1, to lend their weights."""

import torch
from timm.models.convit import ConVit
from timm.models.vision_transformer import VisionTransformer

from blocks import tree

SHAPE = {"img_size": 16, "patch_size": 4, "num_classes": 5, "depth": 2}
VIT = SHAPE | {"embed_dim": 12, "num_heads": 3}
CONVIT = SHAPE | {"num_heads": 4, "local_up_to_layer": 1, "embed_dim": 16}


def timms(cls=VisionTransformer, seed=0, **knobs):
    """timm's model with no parameter left at 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = cls(**{k: v for k, v in (VIT | knobs).items() if v is not None}).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return model


def timms_convit():
    return timms(ConVit, num_heads=4, local_up_to_layer=1, embed_dim=4)  # timm's width is per head


def images(size=16):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def saved(content, path):
    torch.save(content, path)
    return path


def assert_same(params, leaves):
    found = tree.flatten(params)
    assert found.keys() == leaves.keys()
    assert all(torch.equal(found[name], leaf) for name, leaf in leaves.items())
