"""PyTorch's fused kernels of AdamW and SGD, as operators of ours where a compiler follows: it has no view into them."""

import torch
from torch import Tensor

from blocks.ops.define import define, traced


def fused_adamw_(
    params: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    step: Tensor,
    lr: Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    found_inf: Tensor | None,
) -> None:
    """Update params, means and squares for the `step`th time (float []); nothing where found_inf is 1."""
    update_ = ADAMW if traced(lr) else _adamw_
    update_(params, grads, means, squares, step, lr, found_inf, [*betas, eps, weight_decay])


def fused_sgd_(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    lr: Tensor,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    found_inf: Tensor | None,
) -> None:
    """Update params and their buffers, of which there are none without momentum; nothing where found_inf is 1."""
    update_ = SGD if traced(lr) else _sgd_
    update_(params, grads, buffers, lr, found_inf, momentum, weight_decay, nesterov)


def _adamw_(
    params: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    step: Tensor,
    lr: Tensor,
    found_inf: Tensor | None,
    numbers: list[float],
) -> None:
    beta1, beta2, eps, weight_decay = numbers
    torch._fused_adamw_(
        params, grads, means, squares, [], [step] * len(means),
        lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay, eps=eps,
        amsgrad=False, maximize=False, found_inf=found_inf,
    )  # fmt: skip


def _sgd_(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    lr: Tensor,
    found_inf: Tensor | None,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    torch._fused_sgd_(
        params, grads, buffers, weight_decay=weight_decay, momentum=momentum, lr=lr, dampening=0.0,
        nesterov=nesterov, maximize=False, is_first_step=False, found_inf=found_inf,
    )  # fmt: skip


ADAMW = define(
    "fused_adamw_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] means, Tensor(c!)[] squares, Tensor step,"
    " Tensor lr, Tensor? found_inf, float[] numbers) -> ()",
    _adamw_,
    lambda *_: None,
)
SGD = define(
    "fused_sgd_(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] buffers, Tensor lr, Tensor? found_inf,"
    " float momentum, float weight_decay, bool nesterov) -> ()",
    _sgd_,
    lambda *_: None,
)
