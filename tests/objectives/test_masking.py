"""Random masks: MAE's choice of patches, BEiT's and iBOT's rectangles."""

import math

import pytest
import torch

from blocks import key
from blocks.objectives.masking import BlockMasks, block_mask, masked_places, random_keep
from blocks.random import per_sample, uniform


def test_as_many_patches_as_asked_are_kept_in_order_and_the_others_are_masked():
    keep = random_keep(per_sample(key(0), 50), 12, 5)
    assert keep.shape == (50, 5)
    assert (keep.diff(dim=1) > 0).all()
    masked = masked_places(keep, 12)
    assert (masked.sum(1) == 7).all()
    assert not masked.gather(1, keep).any()


def test_every_choice_of_patches_is_as_likely():
    """Two of four: six choices, 4,000 draws; chi-squared with 5 degrees of freedom is above 20 once in 800."""
    keep = random_keep(per_sample(key(1), 4000), 4, 2)
    counts = (keep[:, 0] * 4 + keep[:, 1]).bincount()
    counts = counts[counts > 0].double()
    assert len(counts) == 6
    assert ((counts - 4000 / 6) ** 2 / (4000 / 6)).sum() < 20


def test_a_sample_keeps_the_same_in_any_batch_and_all_is_all():
    keys = per_sample(key(0), 6)
    assert torch.equal(random_keep(keys, 9, 4)[2:4], random_keep(keys[2:4], 9, 4))
    assert torch.equal(random_keep(keys, 9, 9), torch.arange(9).expand(6, -1))


@pytest.mark.parametrize("count", [0, 10])
def test_keeping_nothing_or_more_than_there_is_is_an_error(count):
    with pytest.raises(ValueError, match=f"{count} patches of 9 cannot be kept; keep 1 to 9"):
        random_keep(per_sample(key(0), 1), 9, count)


def slow_block_mask(draws, grid, target, aspect=(0.3, 1 / 0.3)):
    """BEiT's loop, rectangle by rectangle, from the same numbers [proposals, 4]."""
    mask, low, misfits = torch.zeros(grid, dtype=torch.bool), (min(grid) // 3) ** 2, 0
    log_aspect = math.log(aspect[0]), math.log(aspect[1])
    for area, shape, top, left in draws:
        room = target - mask.sum()
        area, ratio = low + area * (room - low), (log_aspect[0] + shape * (log_aspect[1] - log_aspect[0])).exp()
        height, width = int((area.clamp(min=0) * ratio).sqrt().round()), int((area.clamp(min=0) / ratio).sqrt().round())
        fits = False
        if height < grid[0] and width < grid[1] and misfits < 10:
            top, left = int(top * (grid[0] - height + 1)), int(left * (grid[1] - width + 1))
            window = mask[top : top + height, left : left + width]
            added = height * width - int(window.sum())
            fits = 0 < added <= room
            if fits:
                window[:] = True
        misfits = 0 if fits else misfits + 1
    return mask


@pytest.mark.parametrize("grid", [(14, 14), (6, 9), (3, 3), (2, 5)])
def test_rectangles_are_those_of_the_slow_loop(grid):
    keys = per_sample(key(3), 30)
    for targets in (uniform(keys) * 0.6 * grid[0] * grid[1], torch.full((30,), 6.0)):  # 6 is reached exactly
        fast = block_mask(keys, grid, targets)
        slow = [slow_block_mask(d, grid, t) for d, t in zip(uniform(keys, (40, 4)), targets, strict=True)]
        assert torch.equal(fast, torch.stack(slow))


def test_masks_never_exceed_their_targets_and_come_near():
    keys = per_sample(key(4), 300)
    targets = torch.linspace(0, 98, 300)
    counts = block_mask(keys, (14, 14), targets).sum((1, 2))
    assert (counts <= targets).all()
    assert not counts[targets < 1].any()
    assert (targets - counts).mean() < 8
    assert (counts[targets > 60] > 40).all()


@pytest.mark.parametrize("grid", [(3, 12), (12, 3)])
def test_a_ratio_is_one_of_the_grids_patches(grid):
    counts = BlockMasks(1.0, (0.5, 0.5)).draw(per_sample(key(9), 100), grid).sum(1)
    assert counts.max() <= 18
    assert counts.double().mean() > 9


def test_forty_proposals_are_as_good_as_a_hundred_for_nearly_every_mask():
    keys = per_sample(key(5), 400)
    targets = 98 * uniform(key(6), (400,))
    few, many = (block_mask(keys, (14, 14), targets, proposals=n).sum((1, 2)) for n in (40, 100))
    assert (few == many).double().mean() > 0.97


def test_rectangles_are_as_often_tall_as_wide():
    """The aspect ratio is uniform in its logarithm: VISSL's, whose logarithm was forgotten, was tall 3.7 to 1."""
    masks = block_mask(per_sample(key(7), 2000), (14, 14), torch.full((2000,), 40.0), proposals=1)
    height, width = (masks.any(axis).sum(1).double() for axis in (2, 1))
    drawn = height > 0
    tall, wide = (height > width)[drawn].double().mean(), (height < width)[drawn].double().mean()
    assert abs(tall - wide) < 0.06
    assert (width.sum() / height.sum()) == pytest.approx(1.0, abs=0.05)
    assert (height / width)[drawn].log().std() > 0.5


def test_a_sample_s_mask_follows_from_its_key_alone():
    keys, targets = per_sample(key(8), 9), torch.full((9,), 20.0)
    masks = block_mask(keys, (7, 7), targets)
    assert torch.equal(masks[4:6], block_mask(keys[4:6], (7, 7), targets[4:6]))
    assert len(masks.flatten(1).unique(dim=0)) == 9
