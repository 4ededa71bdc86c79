"""What no transform or loader can be made of is refused where it is made, with its value."""

import math

import pytest

from blocks.data import EvalLoader, EvalTransform, Mixing, RandomErasing, TrainLoader, TrainTransform, open_shards
from blocks.data.multi_crop import MultiCrop
from tests.data.pictures import shards

NAN = math.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomErasing(2.0), r"prob 2\.0 is not between 0 and 1: how often a box is erased \(--erase\)"),
        (lambda: RandomErasing(NAN), "prob nan"),
        (lambda: RandomErasing("often"), "prob 'often'"),
        (lambda: RandomErasing(mode="noise"), "mode 'noise' is not known; use one of pixel, const, rand"),
        (lambda: RandomErasing(count=0), "count 0 is not a count"),
        (lambda: RandomErasing(count=1.5), r"count 1\.5 is not a count"),
        (lambda: RandomErasing(scale=(0.3,)), r"scale \(0\.3,\) is not an interval above 0"),
        (lambda: RandomErasing(ratio=(2, 1)), r"ratio \(2, 1\) is not an interval"),
        (lambda: Mixing(num_classes=3, mode="all"), "mode 'all' is not known; use one of batch, pair, elem"),
        (lambda: Mixing(num_classes=-1), "num_classes -1 is not a count"),
        (lambda: Mixing(num_classes=3, mixup_alpha=NAN), "mixup_alpha nan"),
        (lambda: Mixing(num_classes=3, cutmix_alpha=-1), "cutmix_alpha -1"),
        (lambda: Mixing(num_classes=3, prob=2), "prob 2 is not between 0 and 1"),
        (lambda: Mixing(num_classes=3, label_smoothing=NAN), "label_smoothing nan"),
        (lambda: Mixing(num_classes=3, cutmix_minmax=(0.5,)), r"cutmix_minmax \(0\.5,\)"),
        (lambda: TrainTransform(0), "img_size 0 is not a number of pixels"),
        (lambda: TrainTransform(8.0), r"img_size 8\.0"),
        (lambda: TrainTransform((8, 8, 8)), r"img_size \(8, 8, 8\)"),
        (lambda: TrainTransform(8, scale=(0.5,)), r"scale \(0\.5,\) is not an interval within 0 to 1"),
        (lambda: TrainTransform(8, scale=(0.5, NAN)), "scale"),
        (lambda: TrainTransform(8, scale=0.5), r"scale 0\.5"),
        (lambda: TrainTransform(8, ratio=(0, 1)), r"ratio \(0, 1\)"),
        (lambda: TrainTransform(8, flip=NAN), "flip nan"),
        (lambda: TrainTransform(8, flip="yes"), "flip 'yes'"),
        (lambda: TrainTransform(8, home="gpu"), "home 'gpu' is not known; use one of workers, device"),
        (lambda: TrainTransform(8, home="device", canvas=8.5), r"canvas 8\.5 is not a number of pixels"),
        (lambda: EvalTransform(8, 0), "crop_pct 0 is not above 0 and at most 1"),
        (lambda: EvalTransform(8, NAN), "crop_pct nan"),
        (lambda: MultiCrop(()), "views"),
        (lambda: MultiCrop((TrainTransform(8),), home="gpu"), "home 'gpu'"),
    ],
)
def test_what_no_transform_can_be_made_of_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return open_shards(shards(tmp_path_factory.mktemp("some"), 8, 8))


@pytest.mark.parametrize("kind", [TrainLoader, EvalLoader])
@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"batch_size": 4.0}, r"batch_size 4\.0 is not a count; use a whole number, 1 or more"),
        ({"batch_size": 0}, "batch_size 0 is not a count"),
        ({"batch_size": -4}, "batch_size -4 is not a count"),
        ({"batch_size": "4"}, "batch_size '4' is not a count"),
        ({"num_classes": 2.5}, r"num_classes 2\.5 is not a count"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"num_workers": -1}, "num_workers -1 is not a count; use a whole number, or 0 for none"),
        ({"num_workers": 0.5}, r"num_workers 0\.5"),
        ({"world_size": 0}, "world_size 0|one of 0 processes"),
        ({"world_size": 1.0}, r"world_size 1\.0"),
        ({"rank": -1}, "rank -1 is not one of 1 processes"),
        ({"timeout": 0}, "timeout 0 is not a number of seconds above 0"),
        ({"timeout": NAN}, "timeout nan"),
        ({"max_unreadable": NAN}, "max_unreadable nan"),
        ({"max_unreadable": 2}, "max_unreadable 2 is not between 0 and 1"),
        ({"decoded": "ram"}, "decoded 'ram' is not known; use one of"),
        ({"mean": (0.5,)}, "mean"),
    ],
)
def test_what_no_loader_can_be_made_of_is_refused(index, kind, knobs, message):
    transform = TrainTransform(8) if kind is TrainLoader else EvalTransform(8)
    with pytest.raises(ValueError, match=message):
        kind(index, **{"batch_size": 4, "num_classes": 3, "transform": transform, **knobs})


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"repeats": 0}, "repeats 0"),
        ({"repeats": 1.5}, r"repeats 1\.5"),
        ({"repeats": 5}, "repeats 5"),
        ({"shuffle_window": 0}, "shuffle_window 0"),
        ({"shuffle_window": 2.5}, r"shuffle_window 2\.5"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_what_no_order_can_be_made_of_is_refused(index, knobs, message):
    with pytest.raises(ValueError, match=message):
        TrainLoader(index, batch_size=4, num_classes=3, transform=TrainTransform(8), **knobs)
