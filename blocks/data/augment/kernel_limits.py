"""What the kernels of augmentation want of pictures."""

import torch
from torch import Tensor

MOST_IMAGES, MOST_PIXELS = (1 << 16) - 1, 1 << 22  # an axis of a launch; parts of a sum, and places in int32


def unsupported(images: Tensor) -> str | None:
    """Why no kernel can work on pictures; None if one can."""
    if images.dtype != torch.uint8 or images.shape[-1] != 3:
        return f"images are {images.dtype} {list(images.shape)}, and the kernel wants bytes [.., H, W, 3]"
    if not 0 < len(images) <= MOST_IMAGES or not 0 < images.shape[-3] * images.shape[-2] <= MOST_PIXELS:
        return f"images are {list(images.shape)}, and the kernel takes 1 to {MOST_IMAGES} of 1 to {MOST_PIXELS} pixels"
    return None
