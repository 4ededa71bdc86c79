"""What numbers may be."""

import math

import numpy as np
import pytest
import torch

from blocks.checks import is_above_0, is_interval, is_whole, is_within


@pytest.mark.parametrize("other", [math.nan, math.inf, "0.5", None, True, 1j, (0.5,), torch.tensor(0.5)])
def test_not_a_number_and_other_types_are_never_right(other):
    assert not is_within(other, -math.inf)
    assert not is_above_0(other)
    assert not is_interval((0, other), 0)
    assert not is_interval((other, 1), 0)
    assert not is_interval(other, 0)
    assert not is_whole(other, 0)


def test_the_ends_of_a_range_are_in_it():
    assert all(is_within(value, 0.25, 1) for value in (0.25, 0.5, 1, np.float32(0.5), np.int64(1)))
    assert not any(is_within(value, 0.25, 1) for value in (0.2, 1.1, 0, 2))
    assert is_above_0(1e-9)
    assert not any(map(is_above_0, (0, 0.0, -1)))


def test_an_interval_is_two_numbers_of_which_the_second_is_no_smaller():
    assert all(is_interval(ends, 0.25, 1) for ends in ((0.25, 1), [0.5, 0.5]))
    assert not any(is_interval(ends, 0.25, 1) for ends in ((1, 0.25), (0.2, 1), (0.25, 2), (0.5,), (0.3, 0.4, 0.5)))


def test_whole_numbers_are_integers_from_the_lowest_on():
    assert all(is_whole(value, 1) for value in (1, 7, np.int64(2)))
    assert not any(is_whole(value, 1) for value in (0, -1, 2.0))
