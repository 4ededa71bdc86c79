"""What the layers of a trunk say of images, as timm's models give it."""

from collections.abc import Sequence
from typing import Any

import attrs
from torch import Tensor

from blocks.block import Params
from blocks.trunks.parts import Parts


@attrs.frozen
class Tokens:
    """What stands for the trunk of a model that is given a trunk's tokens instead of images."""

    is_random = False

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        return x


def intermediate_layers(
    model: Any,
    params: Params,
    images: Tensor,
    indices: int | Sequence[int] | None = None,
    *,
    norm: bool = False,
    return_prefix_tokens: bool = False,
    output_fmt: str = "NCHW",
) -> list:
    """images [B, C, H, W] -> what encoder layers give: maps [B, D, h, w], with "NLC" tokens [B, h w, D] of the patches.

    `indices` are numbers of layers, -1 the last; an int means the last so many, None all. They come in the order of the
    layers. `norm` applies the trunk's final norm, where it has one. With `return_prefix_tokens` each is a pair of it
    and of the tokens before the patches' [B, P, D]; P is 0 where a ConViT's class token has not joined yet.
    Arguments and meanings are timm's, of `forward_intermediates`. Raises ValueError for layers and formats unknown.
    """
    return intermediates(model, params, images, indices, norm, return_prefix_tokens, output_fmt)[1]


def intermediates(
    model: Any,
    params: Params,
    images: Tensor,
    indices: int | Sequence[int] | None,
    norm: bool,
    return_prefix_tokens: bool,
    output_fmt: str,
) -> tuple[Tensor, list]:
    """(the trunk's tokens [B, P + N, D], `intermediate_layers`)."""
    if output_fmt not in ("NCHW", "NLC"):
        raise ValueError(f'output_fmt {output_fmt!r} is not known; use "NCHW" for maps, "NLC" for tokens')
    trunk = getattr(model, "trunk", model)
    if not isinstance(trunk, Parts):
        raise ValueError(f"a {type(trunk).__name__} has no encoder layers of ours; give a model made by vit or convit")
    taken = taken_layers(indices, len(trunk.blocks))
    tokens = trunk.intermediate_tokens(params, images)
    final = tokens[-1] if trunk.norm is None else trunk.norm(params["norm"], tokens[-1])
    found = [tokens[i + 1] for i in taken]
    if norm and trunk.norm is not None:
        found = [trunk.norm(params["norm"], x) for x in found]
    height, width = trunk.grid(images)
    pairs = [x.split((x.shape[1] - height * width, height * width), 1) for x in found]
    patches = [x if output_fmt == "NLC" else x.mT.unflatten(2, (height, width)).contiguous() for _, x in pairs]
    return final, list(zip(patches, (x for x, _ in pairs), strict=True)) if return_prefix_tokens else patches


def taken_layers(indices: int | Sequence[int] | None, depth: int) -> list[int]:
    """Which of depth layers are meant, in order. Raises ValueError for those that are not among them."""
    if indices is None or isinstance(indices, int):
        last = depth if indices is None else indices
        if not 0 < last <= depth:
            raise ValueError(f"the last {last} layers are not among {depth}; use 1 to {depth}, or (-1,) for one number")
        return list(range(depth - last, depth))
    outside = [i for i in indices if not -depth <= i < depth]
    if outside:
        raise ValueError(f"layers {outside} are not among {depth}; use 0 to {depth - 1}, or -1 for the last")
    return sorted({i % depth for i in indices})
