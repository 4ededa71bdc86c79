"""The ops of losses that `bench/gpu.py` measures."""

from typing import Any

import torch
import torch.nn.functional as F
from gpu_case import Case, Form, normal, ours, peer  # bench/gpu_case.py: a script's own folder is on its path
from torch import Tensor

from blocks.ops.cross_entropy import cross_entropy
from blocks.ops.cross_view import cross_view
from blocks.ops.nt_xent import nt_xent
from blocks.ops.queue_nce import queue_nce, queue_nce_plain
from blocks.ops.sinkhorn import sinkhorn


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
