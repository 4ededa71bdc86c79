"""Views of a picture: each its transform's own, by keys of its own, with those of its size."""

import pickle

import attrs
import pytest
import torch

from blocks.data.augment import Distortion
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import dino_views, swav_views
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.data.views import VIEW, view_keys
from blocks.random import fold_in
from tests.data.draws import keys
from tests.data.pictures import picture

COUNT = 12
IMAGES = [picture(i, 20 + i, 30 - i) for i in range(COUNT)]
SQUARES = [picture(i, 24, 24) for i in range(COUNT)]
LARGE, SMALL = TrainTransform(16, policy=Distortion()), TrainTransform((6, 8), scale=(0.05, 0.3))
OTHER = TrainTransform(16, flip=0.0)
MIXED = MultiCrop((LARGE, SMALL, OTHER, SMALL, LARGE))  # sizes, and equal views, in turns
PLACES = {"crops.0": (0, 2, 4), "crops.1": (1, 3)}


def test_views_of_one_size_stand_together_in_the_order_of_their_first():
    crops = MIXED(IMAGES, keys(COUNT))
    assert {name: tuple(x.shape) for name, x in crops.items()} == {
        "crops.0": (COUNT, 3, 16, 16, 3),
        "crops.1": (COUNT, 2, 6, 8, 3),
    }
    assert list(crops) == ["crops.0", "crops.1"]


def test_every_view_is_what_its_transform_makes_of_its_own_keys():
    crops = MIXED(IMAGES, keys(COUNT))
    for name, places in PLACES.items():
        for view, place in zip(crops[name].unbind(1), places, strict=True):
            own = fold_in(keys(COUNT), VIEW + place)
            assert torch.equal(view, MIXED.views[place](IMAGES, own))


def test_views_of_equal_transforms_differ():
    first, second = MultiCrop((LARGE, LARGE))(IMAGES, keys(COUNT))["crops.0"].unbind(1)
    assert (first != second).flatten(1).any(1).all()


def test_a_view_does_not_depend_on_the_others():
    """Not on their number, nor on their transforms."""
    alone = MultiCrop((LARGE, OTHER))(IMAGES, keys(COUNT))["crops.0"][:, 0]
    assert torch.equal(MIXED(IMAGES, keys(COUNT))["crops.0"][:, 0], alone)


@pytest.mark.parametrize("home", ["workers", "device"])
def test_a_picture_s_views_depend_on_itself_and_its_key_alone(home):
    transform = attrs.evolve(MIXED, home=home)
    rows = [7, 3, 11]

    def made(images, own):
        batch = transform(images, own)
        return batch if home == "workers" else transform.finish(batch, own)

    part, whole = made([IMAGES[row] for row in rows], keys(COUNT)[rows]), made(IMAGES, keys(COUNT))
    assert all(torch.equal(part[name], whole[name][rows]) for name in whole)


@pytest.mark.parametrize(
    "views", [MIXED.views, swav_views(16, 8, 3), dino_views(16, 8, 2)], ids=["mixed", "swav", "dino"]
)
def test_both_homes_make_the_same_bytes(views):
    """From pictures that are their own canvases: nothing is lost, and no operation of these rounds otherwise."""
    views = tuple(attrs.evolve(view, resize="pillow") for view in views)
    workers, device = MultiCrop(views), MultiCrop(views, home="device", canvas=24)
    there = device.finish(device(SQUARES, keys(COUNT)), keys(COUNT))
    here = workers(SQUARES, keys(COUNT))
    assert list(there) == list(here)
    assert all(torch.equal(there[name], here[name]) for name in here)


def test_all_views_have_one_canvas_as_large_as_the_largest():
    exact = MultiCrop((attrs.evolve(LARGE, resize="pillow"), SMALL), home="device")
    assert torch.equal(exact(IMAGES, keys(COUNT)), EvalTransform(16, crop_pct=1.0)(IMAGES))
    assert attrs.evolve(MIXED, home="device", canvas=20)(IMAGES, keys(COUNT)).shape == (COUNT, 20, 20, 3)
    assert MultiCrop((SMALL,), home="device")(IMAGES, keys(COUNT)).shape == (COUNT, 8, 8, 3)


def test_equal_views_are_made_in_one_call(monkeypatch):
    calls, draw = [], TrainTransform.draw
    monkeypatch.setattr(
        TrainTransform, "draw", lambda self, own, *sizes: calls.append(len(own)) or draw(self, own, *sizes)
    )
    MIXED(IMAGES, keys(COUNT))
    assert sorted(calls) == [COUNT, 2 * COUNT, 2 * COUNT]


def test_the_host_never_waits_for_the_device():
    """The meta device has no values that a host could read."""
    crops = MIXED.finish(torch.empty(COUNT, 24, 24, 3, dtype=torch.uint8, device="meta"), keys(COUNT))
    assert [tuple(x.shape) for x in crops.values()] == [(COUNT, 3, 16, 16, 3), (COUNT, 2, 6, 8, 3)]


def test_view_keys_differ_by_view_and_from_the_transform_s_own():
    folded = [view_keys(keys(5), view) for view in range(8)] + [fold_in(keys(5), use) for use in range(8)]
    assert len({tuple(row) for batch in folded for row in batch.tolist()}) == 16 * 5


def test_workers_get_their_views_by_pickle():
    assert pickle.loads(pickle.dumps(MIXED)) == MIXED


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiCrop(()), "views .* are none"),
        (lambda: MultiCrop((LARGE,), home="gpu"), "'gpu' is not known; use one of workers, device"),
        (lambda: MultiCrop((LARGE,), canvas=32), "canvas 32 has no use with home 'workers'"),
        (lambda: MultiCrop((TrainTransform(8, home="device"),)), r"use MultiCrop\(views, home='device'\)"),
    ],
)
def test_views_that_cannot_be_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
