"""An order that would fetch shards again and again is refused at construction."""

import re

import attrs
import numpy as np
import pytest

from blocks.data import EvalTransform, TrainLoader, TrainTransform, mix_sources, open_shards
from blocks.data.storage import ShardCache
from tests.data.pictures import gzipped, shards, with_cache

COUNT, PER_SHARD = 40, 4


def loader(index, window):
    return TrainLoader(index, batch_size=4, num_classes=3, transform=EvalTransform(4), shuffle_window=window)


@pytest.fixture
def packed(tmp_path):
    """Ten shards that are unpacked into the cache."""
    return [gzipped(path) for path in shards(tmp_path, COUNT, PER_SHARD)]


def test_a_shuffled_epoch_wants_room_for_all_shards(packed, tmp_path):
    index = open_shards(packed)
    for window in (None, COUNT):  # which is never more than all
        loader(with_cache(index, tmp_path / "cache", 1.01), window)
    with pytest.raises(ValueError, match=r"shuffle_window None reads .* GB .* cache .* may take .* VITMASON_CACHE_GB"):
        loader(with_cache(index, tmp_path / "cache", 0.9), None)


def test_a_window_wants_room_for_two_and_the_one_that_fits_is_named(packed, tmp_path):
    small = with_cache(open_shards(packed), tmp_path / "cache", 0.5)
    with pytest.raises(ValueError, match="fits") as error:
        loader(small, 12)
    fits = int(re.search(r"shuffle_window=(\d+) fits", str(error.value))[1])
    assert 0 < fits < 12
    loader(small, fits)
    with pytest.raises(ValueError, match="fits"):
        loader(small, fits + 1)


def test_a_cache_that_can_be_no_folder_says_how_to_move_it(packed, tmp_path):
    (tmp_path / "file").touch()
    index = with_cache(open_shards(packed), tmp_path / "file" / "cache", 1.01)
    with pytest.raises(OSError, match=r"cannot write the cache at .*file.cache: Not a directory; set XDG_CACHE_HOME"):
        loader(index, None)


def test_a_part_of_the_samples_wants_room_for_the_whole_of_their_shards(packed, tmp_path):
    index = with_cache(open_shards(packed), tmp_path / "cache", 0.5)
    last_of_each = np.arange(PER_SHARD - 1, COUNT, PER_SHARD)
    with pytest.raises(ValueError, match="VITMASON_CACHE_GB"):
        loader(index.take(last_of_each), None)


def test_a_cache_below_a_few_shards_says_so(packed, tmp_path):
    with pytest.raises(ValueError, match="less than a few shards"):
        loader(with_cache(open_shards(packed), tmp_path / "cache", 0.1), 4)


def test_every_cache_is_looked_at_for_the_shards_that_lie_in_it(packed, tmp_path):
    index = open_shards(packed)
    large, small = with_cache(index, tmp_path / "large", 2), with_cache(index, tmp_path / "small", 0.6)
    split = attrs.evolve(index, shards=large.shards[:5] + small.shards[5:])
    loader(split, None)
    full = attrs.evolve(index, shards=large.shards[:2] + small.shards[2:])
    with pytest.raises(ValueError, match=f"cache {re.escape(str(tmp_path / 'small'))} may take"):
        loader(full, None)


def test_every_source_of_a_mixture_has_windows_of_its_own(packed, tmp_path):
    index = with_cache(open_shards(packed), tmp_path / "cache", 0.7)
    halves = [index.take(np.arange(20)), index.take(np.arange(20, 40))]
    loader(index, 6)
    with pytest.raises(ValueError, match="shuffle_window=") as error:
        loader(mix_sources([(half, 1) for half in halves]), 6)
    fits = int(re.search(r"shuffle_window=(\d+) fits", str(error.value))[1])
    loader(mix_sources([(half, 1) for half in halves]), fits)


def test_what_is_kept_decoded_is_read_in_stored_order(packed, tmp_path):
    index = with_cache(open_shards(packed), tmp_path / "cache", 0.3)
    options = {"transform": TrainTransform(4, home="device"), "decoded": "disk"}
    TrainLoader(index, batch_size=4, num_classes=3, **options)


def test_plain_shards_here_need_no_cache(tmp_path):
    loader(open_shards(shards(tmp_path, COUNT, PER_SHARD), cache=ShardCache(tmp_path, 1)), None)
