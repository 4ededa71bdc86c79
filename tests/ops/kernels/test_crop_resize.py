"""The kernel of crop, resize and mirror: the bytes of the matrix products, which are Pillow's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.augment.batched_resize import INTERPOLATIONS, crop_resize

pytest.importorskip("triton")
SIDE = st.integers(1, 10)


def pictures(count, height, width):
    """Noise uint8 [B, H, W, 3], whose overshoots are cut at both ends."""
    generator = torch.Generator().manual_seed(100 * height + width)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def boxes_in(height, width, shares):
    """Boxes int64 [B, 4] of (top, left, height, width), from four shares each."""
    top, left, h, w = torch.tensor(shares, dtype=torch.float64).unbind(1)
    h, w = (1 + h * (height - 1)).long(), (1 + w * (width - 1)).long()
    return torch.stack(((top * (height - h + 1)).long(), (left * (width - w + 1)).long(), h, w), 1)


def check(device, images, boxes, size, interpolation, mirrored):
    """The bytes are those of PyTorch's operations, which stay on the CPU."""
    made = crop_resize(images.to(device), boxes, size, interpolation, mirrored, impl="triton")
    assert (made.dtype, made.is_contiguous()) == (torch.uint8, True)
    assert torch.equal(made.cpu(), crop_resize(images, boxes, size, interpolation, mirrored, impl="torch"))


@given(
    st.tuples(SIDE, SIDE),
    st.tuples(SIDE, SIDE),
    st.lists(st.tuples(*[st.floats(0, 0.999)] * 4), min_size=1, max_size=2),
    st.sampled_from(INTERPOLATIONS),
    st.booleans(),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_every_byte_of_any_box_at_any_size(device, shape, size, shares, interpolation, first):
    mirrored = torch.arange(len(shares)) % 2 == int(first)
    check(device, pictures(len(shares), *shape), boxes_in(*shape, shares), size, interpolation, mirrored)


@pytest.mark.parametrize(
    ("shape", "size", "interpolation"),
    [
        ((7, 20), (4, 7), "bicubic"),
        ((20, 7), (7, 4), "lanczos"),
        ((5, 4), (9, 45), "bilinear"),
        ((20, 7), (9, 45), "nearest"),
    ],
)
def test_far_down_and_up_beyond_a_tile(device, shape, size, interpolation):
    """All of a picture, most of it, a pixel of it; columns first where it is tall; more than one tile each way."""
    shares = [(0, 0, 1, 1), (0.5, 0.5, 0.9, 0.8), (0.7, 0.3, 0, 0), (0, 0.5, 1, 0)]
    mirrored = torch.tensor([True, False, True, False])
    check(device, pictures(4, *shape), boxes_in(*shape, shares), size, interpolation, mirrored)


def test_more_boxes_than_pictures_go_round(device):
    boxes = boxes_in(9, 11, [(0.1 * i, 0.9 - 0.1 * i, 0.1 * i, 0.6) for i in range(7)])
    check(device, pictures(2, 9, 11), boxes, 6, "bicubic", torch.arange(7) % 3 == 0)


def test_inputs_in_any_memory_order(device):
    images, boxes = pictures(3, 9, 11), boxes_in(9, 11, [(0.2, 0.4, 0.5, 0.6)] * 3)
    turned, spread = images.transpose(1, 2).contiguous().transpose(1, 2), boxes.T.contiguous().T
    mirrored = torch.tensor([True, True, True, False, False, False])[::2]
    check(device, turned, spread, (4, 6), "bicubic", mirrored)


def test_what_the_kernel_cannot_do_is_said_and_else_left_to_torch(device):
    images, mirrored = pictures(2, 4, 4).to(device), torch.zeros(2, dtype=torch.bool)
    whole = torch.tensor([[0, 0, 4, 4]] * 2)
    with pytest.raises(ValueError, match=r"images are torch\.float32 \[2, 4, 4, 3\], and the kernel wants bytes"):
        crop_resize(images.float(), whole, 4, "bicubic", mirrored, impl="triton")
    with pytest.raises(ValueError, match="boxes are 0, and the kernel takes 1 to 65535"):
        crop_resize(images, whole[:0], 4, "bicubic", mirrored[:0], impl="triton")
    with pytest.raises(ValueError, match=r"crops are \[2048, 2049\], and the kernel makes 1 to 4194304 pixels"):
        crop_resize(images, whole, (2048, 2049), "bicubic", mirrored, impl="triton")
    assert torch.equal(crop_resize(images, whole, 4, "bicubic", mirrored), images)


def test_an_unknown_interpolation_is_refused_by_the_kernel_too(device):
    with pytest.raises(ValueError, match="'cubic' is not known"):
        crop_resize(
            pictures(1, 4, 4), torch.tensor([[0, 0, 4, 4]]), 4, "cubic", torch.zeros(1, dtype=torch.bool), impl="triton"
        )
