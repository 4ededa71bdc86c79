"""The kernel of Gaussian blur: the bytes of the matrix products, which are Pillow's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.augment.batched_filter import blur
from tests.data.test_batched_ops import pictures

pytest.importorskip("triton")


def check(device, images, sigmas):
    """The bytes are those of PyTorch's operations, which stay on the CPU."""
    made = blur(images.to(device), sigmas, impl="triton")
    assert (made.dtype, made.is_contiguous()) == (torch.uint8, True)
    assert torch.equal(made.cpu(), blur(images, sigmas, impl="torch"))


@given(st.integers(1, 7), st.integers(1, 7), st.lists(st.floats(0, 3), min_size=1, max_size=2))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_every_byte_of_any_size_and_deviation(device, height, width, sigmas):
    check(device, pictures(height, width)[: len(sigmas)], torch.tensor(sigmas))


def test_boxes_of_all_widths_in_one_batch_and_beyond_a_tile(device):
    """None at all, and wider than the picture; white stays white."""
    images = pictures(3, 50)[2:5]
    images[2] = 255
    check(device, images, torch.tensor([0.0, 9.0, 1.3]))


def test_inputs_in_any_memory_order(device):
    check(device, pictures(5, 7)[::3].transpose(1, 2), torch.tensor([[1.0, 0.4, 2.0], [9.0, 9.0, 9.0]]).T[:, 0])


def test_what_the_kernel_cannot_do_is_said(device):
    with pytest.raises(ValueError, match=r"images are torch\.float32 \[1, 4, 4, 3\], and the kernel wants bytes"):
        blur(torch.zeros(1, 4, 4, 3, device=device), torch.ones(1), impl="triton")
