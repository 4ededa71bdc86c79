"""OpenAI's CLIP in small, of PyTorch's own layers, whose leaves bear the names of its files."""

from collections import OrderedDict

import torch
from torch import nn

WIDTH, HEADS, OUT = 12, 3, 7


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Layer(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        parts = {"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "gelu": act, "c_proj": nn.Linear(4 * WIDTH, WIDTH)}
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Layers(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.resblocks = nn.Sequential(*(Layer(act) for _ in range(2)))

    def forward(self, x):
        return self.resblocks(x)


class Tower(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 4, 4, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(17, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Layers(act)
        self.proj = nn.Parameter(torch.randn(WIDTH, OUT))

    def forward(self, images):
        x = self.conv1(images).flatten(2).mT
        x = torch.cat((self.class_embedding.expand(len(x), 1, -1), x), 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Clip(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.visual = Tower(act)
        self.token_embedding = nn.Embedding(5, 4)
        self.ln_final = nn.LayerNorm(4)
        self.text_projection = nn.Parameter(torch.randn(4, OUT))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, images):
        return self.visual(images)


def clip(act=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Clip(act or QuickGELU())
        for leaf in model.parameters():
            leaf.data.add_(0.1 * torch.randn_like(leaf))
    return model


def archive(path):
    """(the model, its file as OpenAI published it: traced, with three numbers beside the weights)."""
    model = clip()
    for name in ("input_resolution", "context_length", "vocab_size"):
        model.register_buffer(name, torch.tensor(16))
    torch.jit.trace(model, torch.zeros(1, 3, 16, 16)).save(str(path))
    return model
