"""What a loader shows, told as values and seen again."""

import json

import attrs
import numpy as np
import pytest

from blocks.data import EvalLoader, EvalTransform, open_shards, write_dataset
from blocks.data.seen import seen_as, shown_shards


@attrs.frozen
class Own:
    """A transform of somebody's own."""

    def __call__(self, images, keys=None):
        return EvalTransform(8)(images)


@pytest.fixture
def loader(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 9, 12, 3), np.uint8)
    samples = [(f"{i}", picture, i % 2) for i, picture in enumerate(pictures)]
    write_dataset(samples, tmp_path, workers=0, progress=False)
    transform = EvalTransform((8, 6), 0.75, "bilinear")
    return EvalLoader(open_shards(tmp_path), batch_size=6, transform=transform, mean=(0.1, 0.2, 0.3))


def told(loader):
    """Its description, as a file keeps it."""
    return json.loads(json.dumps(loader.description))


def test_what_a_loader_tells_shows_the_same_again(loader):
    again = EvalLoader(shown_shards(told(loader)), batch_size=6, **seen_as(told(loader)))
    (mine,), (theirs,) = loader, again
    assert mine["images"].equal(theirs["images"])
    assert mine["labels"].equal(theirs["labels"])
    assert again.transform == loader.transform


def test_what_is_given_wins(loader):
    seen = seen_as(told(loader), img_size=16, interpolation="bicubic")
    assert seen["transform"] == EvalTransform(16, 0.75, "bicubic")


def test_a_transform_of_somebody_s_own_is_named_not_guessed(loader):
    own = attrs.evolve(loader, transform=Own())
    with pytest.raises(ValueError, match="were cut by Own, a transform of its own"):
        seen_as(told(own), img_size=8)
    assert seen_as(told(own), img_size=8, crop_pct=0.5)["transform"] == EvalTransform(8, 0.5)


def test_where_nothing_tells_the_size_it_is_asked_for():
    with pytest.raises(ValueError, match="give img_size"):
        seen_as({})
    assert seen_as({}, img_size=8) == {"transform": EvalTransform(8)}


def test_a_part_of_the_samples_is_not_taken_for_all(loader):
    part = attrs.evolve(loader, index=loader.index.take(np.arange(4)))
    with pytest.raises(ValueError, match="hold 6 samples, and 4 of them were seen"):
        shown_shards(told(part))
