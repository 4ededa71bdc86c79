"""The ops that `bench/gpu.py` measures: for each its forms, what it reads, and the least that it has to move."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from blocks import key, random
from blocks.ops.adamw_ema import Leaves, Rates, adamw_ema_, adamw_ema_plain_
from blocks.ops.attention import attention, attention_weights
from blocks.ops.choose import Impl
from blocks.ops.cross_entropy import cross_entropy
from blocks.ops.cross_view import cross_view
from blocks.ops.dropout import keyed_dropout
from blocks.ops.gelu import linear_gelu
from blocks.ops.gpsa import gpsa, position_attention
from blocks.ops.moving_average import moving_average_
from blocks.ops.nt_xent import nt_xent
from blocks.ops.queue_nce import queue_nce, queue_nce_plain
from blocks.ops.residual_norm import residual_norm
from blocks.ops.sinkhorn import sinkhorn
from blocks.ops.threefry import words_of
from blocks.threefry import threefry_reference

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
Form = Callable[..., Any]  # (*inputs) -> a tensor or a tuple of them


@dataclass
class Case:
    """An op on inputs, of which those that require a gradient get one. `forms` are its implementations by name.

    "plain" is the reference and what "compiled" compiles. `work` is (FLOP, bytes) that no form can do without, forward
    and backward. `skipped` says why a form is not there. `unlike` are forms that are right and give other numbers.
    """

    shape: str
    inputs: list[Tensor]
    forms: dict[str, Form]
    work: tuple[float, float]
    skipped: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, Form] = field(default_factory=dict)


def normal(seed: int, *shape: int, like: Tensor, grad: bool = True) -> Tensor:
    return random.normal(key(seed, like.device), shape).to(like.dtype).requires_grad_(grad)


def ours(op: Form, on_gpu: bool, **knobs: Any) -> dict[str, Form]:
    """An op's plain form, PyTorch's and, on a GPU, the kernel."""
    impls = ("plain", "torch", "triton") if on_gpu else ("plain", "torch")
    return {impl: partial(op, impl=impl, **knobs) for impl in impls}


def peer(case: Case, name: str, module: str, make: Callable[[Any], Form]) -> Case:
    """The case with another library's form, or why it has none."""
    try:
        case.forms[name] = make(importlib.import_module(module))
    except Exception as why:
        case.skipped[name] = f"{type(why).__name__}: {why}"
    return case


def gpsa_case(like: Tensor, small: bool) -> Case:
    """A layer of ConViT-B: content and position in one."""
    batch, heads, side, width = (2, 2, 4, 16) if small else (256, 16, 14, 48)
    q, k, v = (normal(seed, batch, heads, side * side, width, like=like) for seed in range(3))
    weight, bias = normal(3, heads, 3, like=like.float(), grad=False), torch.zeros(heads, device=like.device)
    rows, cols = (x.detach().to(like.dtype).requires_grad_() for x in position_attention(weight, bias, (side, side)))
    gate = torch.linspace(0.2, 0.8, heads, device=like.device).to(like.dtype).requires_grad_()
    work = 14 * batch * heads * side**4 * width, 12 * q.numel() * q.element_size()
    shape = f"{batch} x {heads} heads x {side} x {side} x {width}"
    skipped = {"timm": "has it within a layer only; see the steps"}
    return Case(shape, [q, k, v, rows, cols, gate], ours(gpsa, like.is_cuda), work, skipped)


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


def cross_entropy_case(like: Tensor, small: bool) -> Case:
    """Labels of many classes, smoothed."""
    rows, classes = (8, 32) if small else (4096, 32_768)
    logits, labels = normal(0, rows, classes, like=like), torch.arange(rows, device=like.device) % classes
    forms = {
        name: lambda logits, form=form: form(logits, labels, 0.1)
        for name, form in ours(cross_entropy, like.is_cuda).items()
    }
    case = Case(f"{rows} x {classes:,}", [logits], forms, (0, 3 * logits.numel() * logits.element_size()))

    def liger(module: Any) -> Form:  # its kernel writes the gradient over the logits
        loss = module.LigerCrossEntropyLoss(label_smoothing=0.1)
        return lambda logits: loss(logits.clone(), labels)

    if not like.is_cuda:
        case.skipped["liger"] = "wants a GPU"
        return case
    return peer(case, "liger", "liger_kernel.transformers", liger)


def cross_view_case(like: Tensor, small: bool) -> Case:
    """DINO: 2 teachers' codes, 10 crops."""
    views, batch, prototypes = (3, 2, 32) if small else (10, 64, 65_536)
    scores = normal(0, views, batch, prototypes, like=like)
    codes = normal(1, 2, batch, prototypes, like=like.float(), grad=False).softmax(-1)
    forms = {
        name: lambda scores, form=form: form(scores, codes, 0.1)
        for name, form in ours(cross_view, like.is_cuda).items()
    }
    moved = 3 * scores.numel() * scores.element_size() + 8 * codes.numel()
    skipped = {"lightly": "has it together with codes or a centre only"}
    return Case(f"{views} x {batch} x {prototypes:,}", [scores], forms, (0, moved), skipped)


def nt_xent_case(like: Tensor, small: bool) -> Case:
    """SimCLR at 4,096 images, float32."""
    images, width = (8, 16) if small else (4096, 128)
    z = normal(0, 2, images, width, like=like.float())
    case = Case(f"2 x {images:,} x {width}", [z], {}, (3.0 * (2 * images) ** 2 * width, 3 * z.numel() * 4))
    for name, form in ours(nt_xent, like.is_cuda).items():
        case.forms[name] = lambda z, form=form: form(F.normalize(z, dim=-1), 0.1)  # as lightly does within

    def lightly(module: Any) -> Form:
        loss = module.NTXentLoss(0.1)
        return lambda z: loss(z[0], z[1])

    return peer(case, "lightly", "lightly.loss", lightly)


def queue_nce_case(like: Tensor, small: bool) -> Case:
    """MoCo: 256 queries, 65,536 keys, float32."""
    batch, size, width = (4, 64, 16) if small else (256, 65_536, 128)
    wide = like.float()
    q, k, queue = (normal(i, n, width, like=wide, grad=i == 0) for i, n in enumerate((batch, batch, size)))
    k, queue = F.normalize(k, dim=1), F.normalize(queue, dim=1)
    forms: dict[str, Form] = {  # they begin with queries of any length, as lightly's does
        "plain": lambda q: queue_nce_plain(F.normalize(q, dim=1), k, queue, 0.2).mean(),
        "torch": lambda q: queue_nce(F.normalize(q, dim=1), k, queue, 0.2).mean(),
    }
    work = 4.0 * batch * size * width, 4 * (queue.numel() + 4 * q.numel())
    case = Case(f"{batch} x {size:,} x {width}", [q], forms, work, {"triton": "there is no kernel"})

    def lightly(module: Any) -> Form:
        loss = module.NTXentLoss(0.2, memory_bank_size=(size, width)).to(like.device)

        def form(q: Tensor) -> Tensor:
            loss.memory_bank.bank.copy_(queue)  # it enqueues what it is given
            return loss(q, k)

        return form

    return peer(case, "lightly", "lightly.loss", lightly)


def sinkhorn_case(like: Tensor, small: bool) -> Case:
    """SwAV: 256 samples, 3,000 prototypes, float32, no gradient."""
    batch, prototypes = (8, 16) if small else (256, 3000)
    scores = normal(0, batch, prototypes, like=like.float(), grad=False).clamp(-1, 1)
    case = Case(
        f"{batch} x {prototypes:,}, 3 iterations", [scores], ours(sinkhorn, like.is_cuda), (0, 8 * scores.numel())
    )
    return peer(
        case, "lightly", "lightly.loss.swav_loss", lambda module: lambda scores: module.sinkhorn(scores, 3, 0.05)
    )


def adamw_ema_case(like: Tensor, small: bool) -> Case:
    """Clipping, AdamW and the average of ViT-B's 86.6 million params, in 12 leaves, float32; in place."""
    size, leaves = (64, 2) if small else (7_216_667, 12)
    columns = [[normal(100 * c + i, size, like=like.float(), grad=False) for i in range(leaves)] for c in range(5)]
    columns[3] = [square.square_() for square in columns[3]]
    device, scales = like.device, [1.0] * leaves
    lr, updates = torch.tensor(1e-3, device=device), torch.tensor(3, device=device)
    skip, factor = torch.tensor(False, device=device), torch.tensor(0.5, device=device)

    def one_pass(update_: Callable, *flat: Tensor) -> tuple[Tensor, ...]:
        params, grads, means, squares, averages = (list(flat[c * leaves : (c + 1) * leaves]) for c in range(5))
        own = Leaves(params, grads, means, squares, scales, [True] * leaves, [0] * leaves, averages)
        update_(own, Rates(lr, updates, (0.9, 0.999), 1e-8, 0.05, skip, factor, 0.999))
        return (*params, *averages)

    def parts(*flat: Tensor) -> tuple[Tensor, ...]:
        params, grads, means, squares, averages = (list(flat[c * leaves : (c + 1) * leaves]) for c in range(5))
        torch._fused_adamw_(
            params, list(torch._foreach_mul(grads, factor)), means, squares, [], [(updates + 1).float()] * leaves,
            lr=lr, beta1=0.9, beta2=0.999, weight_decay=0.05, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        torch._foreach_lerp_(averages, params, 1 - 0.999)
        return (*params, *averages)

    forms = {"plain": partial(one_pass, adamw_ema_plain_), "torch": parts}
    if like.is_cuda:
        forms["triton"] = partial(one_pass, adamw_ema_)
    return Case(f"{leaves} x {size:,}", list(chain.from_iterable(columns)), forms, (0, 36.0 * leaves * size))


def moving_average_case(like: Tensor, small: bool) -> Case:
    """A teacher that follows ViT-B's 86.6 million params, in 150 leaves, its momentum scheduled, float32; in place."""
    size, leaves = (64, 2) if small else (577_333, 150)
    columns = [[normal(1000 * c + i, size, like=like.float(), grad=False) for i in range(leaves)] for c in range(2)]
    keep = torch.tensor(0.996, dtype=torch.float64, device=like.device)
    skip = torch.tensor(False, device=like.device)

    def move(*flat: Tensor, impl: Impl) -> tuple[Tensor, ...]:
        moving_average_(flat[:leaves], flat[leaves:], keep, skip, impl=impl)
        return flat[:leaves]

    return Case(f"{leaves} x {size:,}", columns[0] + columns[1], ours(move, like.is_cuda), (0, 12.0 * leaves * size))


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


CASES = {
    "gpsa": gpsa_case,
    "attention": attention_case,
    "residual_norm": residual_norm_case,
    "linear_gelu": linear_gelu_case,
    "cross_entropy": cross_entropy_case,
    "cross_view": cross_view_case,
    "nt_xent": nt_xent_case,
    "queue_nce": queue_nce_case,
    "sinkhorn": sinkhorn_case,
    "adamw_ema": adamw_ema_case,
    "moving_average": moving_average_case,
    "dropout": dropout_case,
    "draws": draws_case,
}
