"""The ops of layers that `bench/gpu.py` measures: attention, the residual stream, perceptron, dropout and its draws."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from gpu_case import Case, Form, normal, ours, peer  # bench/gpu_case.py: a script's own folder is on its path
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from blocks import key, random
from blocks.ops.attention import attention, attention_weights
from blocks.ops.dropout import keyed_dropout
from blocks.ops.gelu import linear_gelu
from blocks.ops.gpsa import gpsa, position_attention
from blocks.ops.residual_norm import residual_norm
from blocks.ops.threefry import words_of
from blocks.threefry import threefry_reference

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def gpsa_case(like: Tensor, small: bool) -> Case:
    """A layer of ConViT-B: content and position in one."""
    batch, heads, side, width = (4, 4, 6, 16) if small else (256, 16, 14, 48)
    q, k, v = (normal(seed, batch, heads, side * side, width, like=like) for seed in range(3))
    weight, bias = normal(3, heads, 3, like=like), torch.zeros(heads, device=like.device)
    gate = torch.linspace(0.2, 0.8, heads, device=like.device).to(like.dtype).requires_grad_()
    work = 14 * batch * heads * side**4 * width, 12 * q.numel() * q.element_size()
    shape = f"{batch} x {heads} heads x {side} x {side} x {width}"
    skipped = {"timm": "has it within a layer only; see the steps"}

    def from_weight(form: Form, q: Tensor, k: Tensor, v: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """The factors alone would get another gradient from a form that normalises, equal after their softmax."""
        return form(q, k, v, *position_attention(weight, bias, (side, side)), gate)

    forms: dict[str, Form] = {name: partial(from_weight, form) for name, form in ours(gpsa, like.is_cuda).items()}
    return Case(shape, [q, k, v, weight, gate], forms, work, skipped)


def attention_case(like: Tensor, small: bool) -> Case:
    """Plain attention of ViT-B, by each of the kernels that PyTorch may choose from: "torch" is its own choice."""
    shape = (2, 2, 17, 16) if small else (256, 12, 197, 64)
    q, k, v = (normal(seed, *shape, like=like) for seed in range(3))
    forms: dict[str, Form] = {"plain": lambda q, k, v: attention_weights(q, k) @ v, "torch": attention}
    if like.is_cuda:
        forms |= {name: partial(by_backend, backend) for name, backend in BACKENDS.items()}
    batch, heads, tokens, width = shape
    work = 14.0 * batch * heads * tokens**2 * width, 12 * q.numel() * q.element_size()
    return Case(" x ".join(map(str, shape)), [q, k, v], forms, work)


def by_backend(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        return attention(q, k, v)


def residual_norm_case(like: Tensor, small: bool) -> Case:
    """After the attention of ViT-B, with drop path."""
    batch, tokens, width = (2, 5, 16) if small else (256, 197, 768)
    x, branch = (normal(seed, batch, tokens, width, like=like) for seed in range(2))
    weight, bias = (normal(seed, width, like=like) for seed in (2, 3))
    scales = torch.full((batch,), 1.25, device=like.device, dtype=like.dtype)
    forms = {
        name: lambda x, branch, weight, bias, form=form: form(x, branch, weight, bias, scales=scales)
        for name, form in ours(residual_norm, like.is_cuda).items()
    }
    case = Case(
        f"{batch} x {tokens} x {width}", [x, branch, weight, bias], forms, (0, 9 * x.numel() * x.element_size())
    )

    def liger(module: Any) -> Form:
        norm = module.LigerLayerNormFunction.apply

        def form(x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            stream = x + scales[:, None, None] * branch
            return stream, norm(stream, weight, bias, 1e-6)

        return form

    return peer(case, "liger", "liger_kernel.ops.layer_norm", liger)


def linear_gelu_case(like: Tensor, small: bool) -> Case:
    """The first half of ViT-B's MLP."""
    rows, width = (32, 16) if small else (256 * 197, 768)
    x, weight = normal(0, rows, width, like=like), normal(1, 4 * width, width, like=like)
    bias, wide = normal(2, 4 * width, like=like), 4 * rows * width * like.element_size()
    work = 6.0 * rows * width * 4 * width, 5 * wide + 4 * x.numel() * like.element_size()
    skipped = {"torch fused": "its epilogue, _addmm_activation, has no backward pass"}
    return Case(f"{rows} x {width} -> {4 * width}", [x, weight, bias], ours(linear_gelu, like.is_cuda), work, skipped)


def dropout_case(like: Tensor, small: bool) -> Case:
    """Dropout in the MLP of ViT-S, by a key for each sample."""
    batch, tokens, width = (2, 5, 16) if small else (256, 197, 1536)
    x, keys = normal(0, batch, tokens, width, like=like), random.split(key(1, like.device), batch)
    counters = torch.zeros(tokens * width // 2, 2, dtype=torch.int32, device=like.device)
    counters[:, 0] = torch.arange(len(counters), device=like.device)

    def plain(x: Tensor) -> Tensor:
        """In operations that a compiler sees through."""
        words = threefry_reference(keys[:, None], counters).view(x.shape)
        return torch.where(((words.long() & 0xFFFFFFFF) >> 8).float() * 2**-24 < 0.9, x / 0.9, 0)

    forms = {name: partial(form, keys=keys, rate=0.1) for name, form in ours(keyed_dropout, like.is_cuda).items()}
    case = Case(f"{batch} x {tokens} x {width}", [x], forms | {"plain": plain}, (0, 4 * x.numel() * x.element_size()))
    case.unlike["torch fused"] = partial(F.dropout, p=0.1)
    return case


def draws_case(like: Tensor, small: bool) -> Case:
    """The words of a step's drop path: 256 samples, 12 layers of two branches."""
    batch, blocks = (2, 3) if small else (256, 12)
    keys = random.split(key(0, like.device), batch)[:, None]
    counters = torch.arange(2 * blocks, dtype=torch.int32, device=like.device).view(blocks, 2)
    forms: dict[str, Form] = {
        name: lambda _, form=form: form(keys, counters) for name, form in ours(words_of, like.is_cuda).items()
    }
    return Case(f"{batch} x {2 * blocks}", [like.float()], forms, (0, 8.0 * batch * blocks))
