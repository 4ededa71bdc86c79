import attrs
import numpy as np
import pytest

from blocks.data.digits import digits
from blocks.data.index.index import open_shards
from blocks.data.sources import mix_sources
from blocks.data.subset import balanced_share


@pytest.fixture(scope="module")
def index():
    return open_shards(digits()[0])


def places(index):
    return set(zip(index.shard.tolist(), index.offset.tolist(), strict=True))


def test_every_class_keeps_its_share(index):
    few = balanced_share(index, 0.1)
    for label in range(10):
        assert (few.label == label).sum() == round(0.1 * (index.label == label).sum())
    assert few.num_classes == 10
    assert places(few) < places(index)


def test_a_smaller_share_lies_within_a_larger_one_and_another_seed_chooses_others(index):
    assert places(balanced_share(index, 0.05)) < places(balanced_share(index, 0.3))
    assert places(balanced_share(index, 0.05, seed=1)) != places(balanced_share(index, 0.05))


def test_all_is_the_index_itself_and_one_image_a_class_is_the_least(index):
    whole = balanced_share(index, 1.0)
    assert all(np.array_equal(getattr(whole, n), getattr(index, n)) for n in ("shard", "offset", "size", "label"))
    assert sorted(balanced_share(index, 1e-6).label) == list(range(10))


@pytest.mark.parametrize("samples", [[], [0, 0], [1.5], [-1], np.array([True, False]), np.zeros(0, int)])
def test_samples_that_are_no_numbers_of_samples_are_refused(index, samples):
    with pytest.raises(
        ValueError, match=r"different numbers from 0 to \d+, one or more; of a mask np\.flatnonzero gives"
    ):
        index.take(samples)


def test_class_names_stay_and_with_them_the_number_of_classes(index):
    named = attrs.evolve(index, classes=tuple("abcdefghijkl"))
    for few in (
        balanced_share(named, 0.1),
        named.take(np.array([0, 1])),
        mix_sources([(balanced_share(named, 0.1), 1)]),
    ):
        assert few.classes == named.classes
        assert few.num_classes == 12


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_an_impossible_share_is_refused(index, share):
    with pytest.raises(ValueError, match="share"):
        balanced_share(index, share)


def test_an_index_takes_each_of_its_samples_once_at_most(index):
    assert len(index.take(np.array([5, 3]))) == 2
    for samples in ([1, 1], [-1], [len(index)]):
        with pytest.raises(ValueError, match="different numbers"):
            index.take(np.array(samples))
