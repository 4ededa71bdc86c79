"""What patch tokens have in common: their principal components, over all images at once."""

from typing import Any

import attrs
import torch
from torch import Tensor

from blocks.block import Params


@attrs.frozen(eq=False)
class PatchPca:
    """scores [B, H, W, count] of every patch, and the share of the tokens' variance in each component, [count]."""

    scores: Tensor
    explained: Tensor


@torch.no_grad()
def patch_pca(model: Any, params: Params, images: Tensor, count: int = 3) -> PatchPca:
    """The first components of the trunk's patch tokens: images [B, C, H, W] -> scores [B, H / p, W / p, count].

    One basis for all images, so that like patches have like scores in all of them. A component's sign is chosen such
    that its largest loading is positive. Raises ValueError for fewer patches or channels than components.
    """
    trunk = getattr(model, "trunk", model)
    tokens = trunk(params, images)[:, trunk.num_prefix_tokens :]  # [B, N, D]
    scores, explained = principal(tokens.flatten(0, 1), count)
    return PatchPca(scores.unflatten(0, (len(images), *trunk.grid(images))), explained)


def principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """rows [n, D] -> scores [n, count] around their mean, and explained shares [count], from 0 to 1; in float64."""
    if not 0 < count <= min(rows.shape):
        raise ValueError(
            f"{count} components of {rows.shape[0]} rows of {rows.shape[1]}; ask for 1 to {min(rows.shape)}"
        )
    centred = rows.double() - rows.double().mean(0)
    _, sizes, basis = torch.linalg.svd(centred, full_matrices=False)  # [D', D]
    largest = basis.abs().argmax(1, keepdim=True)
    basis = basis * basis.gather(1, largest).sign()
    total = sizes.square().sum().clamp_min(torch.finfo(sizes.dtype).tiny)  # 0 where all rows are the same
    return centred @ basis[:count].T, sizes[:count].square() / total
