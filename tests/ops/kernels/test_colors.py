"""The kernel of operations on pixels alone: the bytes of PyTorch's operations, which are Pillow's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.augment import Distortion, Op, Plan
from blocks.data.augment.batched_ops import apply_plan
from blocks.data.augment.stages import ALONE, stages
from tests.data.draws import keys
from tests.data.test_batched_ops import args_of, mixed_plan, pictures

pytest.importorskip("triton")


def check(device, images, plan, **options):
    """The bytes are those of PyTorch's operations, which stay on the CPU; the pictures stay as they are."""
    there, before = images.to(device), images.clone()
    made = apply_plan(there, plan, **options, impl="triton")
    assert (made.dtype, made.is_contiguous()) == (torch.uint8, True)
    assert torch.equal(made.cpu(), apply_plan(images, plan, **options, impl="torch"))
    assert torch.equal(there.cpu(), before)


def test_the_kernel_knows_the_numbers_of_the_operations():
    from blocks.ops.kernels import colors

    assert {getattr(colors, op.name).value for op in ALONE} == set(ALONE)


@pytest.mark.parametrize("op", [Op.NOTHING, *ALONE], ids=lambda op: op.name)
def test_every_byte_of_each_operation_is_torchs(device, op):
    for order in (slice(None), torch.arange(7, -1, -1)):  # every argument on noise and on a soft picture
        check(device, pictures(5, 7), Plan(torch.full((8, 1), int(op)), args_of(op)[order][:, None]))


def test_every_hue_of_many_colours(device):
    """Greys, the corners of the cube, and all between them in steps of 15."""
    levels = torch.arange(0, 256, 15)
    colours = torch.cartesian_prod(levels, levels, levels).to(torch.uint8).view(1, 18, 18 * 18, 3)
    plan = Plan(torch.full((3, 1), int(Op.HUE)), torch.tensor([[0.0], [0.17], [-0.4]]))
    check(device, colours.expand(3, -1, -1, -1), plan)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 99))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_each_picture_has_its_own_operations_in_its_own_order(device, height, width, length, seed):
    check(device, pictures(height, width, seed), mixed_plan(8, length, [Op.NOTHING, *ALONE], seed))


def test_the_mean_grey_of_more_than_a_program_s_pixels(device):
    plan = Plan(torch.tensor([[9, 8, 0], [10, 9, 7], [0, 3, 9], [9, 3, 9]]), torch.full((4, 3), 0.6))
    check(device, pictures(24, 50)[2:6], plan)


def test_others_come_in_between(device):
    """Some look at more than a pixel, some move pixels: in the middle of the order, and beside those that do not."""
    check(device, pictures(6, 9), mixed_plan(8, 4, sorted(Op), seed=3))


def test_drawn_distortions(device):
    plan = Distortion(sigma=(0.1, 1.0), solarize=0.5).draw(keys(8))
    check(device, pictures(9, 8), plan)


def test_stages_hold_all_of_a_plan_in_order():
    plan = mixed_plan(40, 6, sorted(Op))
    ops, args = [], []
    for alone, other in stages(plan):
        assert ((alone.ops == Op.CONTRAST).sum(1) <= 1).all()
        assert torch.isin(alone.ops, torch.tensor([0, *ALONE])).all()
        assert not torch.isin(other.ops, torch.tensor(ALONE)).any()
        ops += [alone.ops, other.ops]
        args += [alone.args, other.args]
    ops, args = torch.cat(ops, 1), torch.cat(args, 1)
    for row, wanted, arg, wanted_arg in zip(ops, plan.ops, args, plan.args, strict=True):
        assert torch.equal(row[row != 0], wanted[wanted != 0])
        assert torch.equal(arg[row != 0], wanted_arg[wanted != 0])


def test_a_distortion_is_three_stages_at_most():
    """All before the blur, the blur, and solarize."""
    found = list(stages(Distortion(solarize=0.5).draw(keys(50))))
    assert [(alone.ops.shape[1], other.ops.shape[1]) for alone, other in found] == [(6, 1), (1, 0)]


def test_inputs_in_any_memory_order(device):
    check(device, pictures(6, 9).transpose(1, 2), mixed_plan(8, 3, ALONE))


def test_what_the_kernel_cannot_do_is_said(device):
    nothing = Plan(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"images are torch\.float32 \[2, 4, 4, 3\], and the kernel wants bytes"):
        apply_plan(torch.zeros(2, 4, 4, 3, device=device), nothing, impl="triton")
    with pytest.raises(ValueError, match=r"images are \[2, 0, 4, 3\], and the kernel takes 1 to 65535 of 1 to 4194304"):
        apply_plan(torch.zeros(2, 0, 4, 3, device=device, dtype=torch.uint8), nothing, impl="triton")
