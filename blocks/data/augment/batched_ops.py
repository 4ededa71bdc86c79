"""A plan carried out on a whole batch, on any device: no loop over samples, no wait for the device."""

from collections.abc import Callable

import torch
from torch import Tensor

from blocks.data.augment import batched_color as color
from blocks.data.augment import batched_filter as neighbours
from blocks.data.augment import batched_geometry as geometry
from blocks.data.augment import batched_histogram as histogram
from blocks.data.augment.batched_hue import hue
from blocks.data.augment.kernel_limits import unsupported
from blocks.data.augment.ops import FILL, Op
from blocks.data.augment.plan import Plan
from blocks.data.augment.stages import stages, whole_args
from blocks.ops.choose import Impl, choose

PIXELS_AT_ONCE = 1 << 24  # under one operation; bounds the memory: up to some 200 bytes for each
PIXELS: dict[Op, Callable[[Tensor, Tensor], Tensor]] = {
    Op.AUTO_CONTRAST: histogram.auto_contrast,
    Op.EQUALIZE: histogram.equalize,
    Op.INVERT: color.invert,
    Op.POSTERIZE: color.posterize,
    Op.SOLARIZE: color.solarize,
    Op.SOLARIZE_ADD: color.solarize_add,
    Op.COLOR: color.color,
    Op.CONTRAST: color.contrast,
    Op.BRIGHTNESS: color.brightness,
    Op.SHARPNESS: neighbours.sharpness,
    Op.HUE: hue,
    Op.GRAYSCALE: color.grayscale,
    Op.BLUR: neighbours.blur,
}
PLACES: dict[Op, Callable[[Tensor, Tensor, tuple[int, ...], str], Tensor]] = {
    Op.ROTATE: geometry.rotate,
    Op.SHEAR_X: geometry.shear_x,
    Op.SHEAR_Y: geometry.shear_y,
    Op.TRANSLATE_X: geometry.translate_x,
    Op.TRANSLATE_Y: geometry.translate_y,
}


def apply_plan(
    images: Tensor,
    plan: Plan,
    fill: tuple[int, ...] = FILL,
    interpolation: str = "bicubic",
    *,
    impl: Impl = "auto",
) -> Tensor:
    """Each picture's operations in their order: uint8 [B, H, W, 3] on any device -> uint8 [B, H, W, 3].

    A picture's result depends on its own row of the plan alone. An operation without a kernel is done by PyTorch's form
    whatever `impl` says. Raises ValueError for a plan of another batch size and for affine operations with an
    interpolation that they do not know.
    """
    if len(images) != len(plan):
        raise ValueError(f"a plan for {len(plan)} pictures does not fit a batch of {len(images)}; draw a key for each")
    if choose(impl, images, lambda: unsupported(images)) == "triton":
        return _by_kernels(images, plan, fill, interpolation)
    images = images.clone()
    for ops, args in zip(plan.ops.unbind(1), plan.args.unbind(1), strict=True):
        _column_(images, ops, args, fill, interpolation, "torch")
    return images


def _by_kernels(images: Tensor, plan: Plan, fill: tuple[int, ...], interpolation: str) -> Tensor:
    """`apply_plan` with all operations on pixels alone in one launch, up to the next that looks farther."""
    from blocks.ops.kernels.colors import colors  # Triton, only where it is asked for

    done = torch.empty_like(images, memory_format=torch.contiguous_format)
    source = images.contiguous()
    for alone, other in stages(plan):
        if source is not done or alone.ops.any():
            colors(source, alone.ops, whole_args(alone), done)
            source = done
        for ops, args in zip(other.ops.unbind(1), other.args.unbind(1), strict=True):
            _column_(done, ops, args, fill, interpolation, "triton")
    return done


def _column_(images: Tensor, ops: Tensor, args: Tensor, fill: tuple[int, ...], interpolation: str, impl: Impl) -> None:
    """One operation a picture, in place, like with like: ops and args [B]."""
    some = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    for op in ops.unique().tolist():  # on the CPU
        if op != Op.NOTHING:
            for rows in (ops == op).nonzero()[:, 0].split(some):
                there = rows.to(images.device, non_blocking=True)
                done = _apply(Op(op), images.index_select(0, there), args[rows], fill, interpolation, impl)
                images.index_copy_(0, there, done)


def _apply(op: Op, images: Tensor, args: Tensor, fill: tuple[int, ...], interpolation: str, impl: Impl) -> Tensor:
    if op == Op.BLUR:
        return neighbours.blur(images, args, impl=impl)
    if op not in PLACES:
        return PIXELS[op](images, args)
    if interpolation not in geometry.STEPS:
        raise ValueError(f"{op.name} does not know {interpolation!r}; use one of {', '.join(geometry.STEPS)}")
    return PLACES[op](images, args, fill, interpolation)
