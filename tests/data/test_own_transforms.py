"""Transforms that a user wrote: what a loader takes of them, and what it says of all else."""

import attrs
import numpy as np
import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

from blocks.data import EvalLoader, MultiCrop, TrainLoader, TrainTransform, open_shards
from blocks.data.decode import rgb
from tests.data.pictures import shards

LOADERS = (TrainLoader, EvalLoader)
both = pytest.mark.parametrize("loader", LOADERS)


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, 12, 12))


def first(loader, index, transform, **options):
    with loader(index, batch_size=6, transform=transform, **options) as data:
        return next(iter(data.batches() if loader is TrainLoader else data))


def batch(count, *shape, dtype=torch.uint8):
    return torch.ones(count, *shape, dtype=dtype)


def squares(pictures, keys):
    """What a transform is: pictures and their keys to uint8 [B, H, W, 3]."""
    return torch.from_numpy(np.stack([np.asarray(rgb(picture).resize((8, 8))) for picture in pictures]))


@both
def test_pictures_and_keys_to_bytes_is_a_transform(loader, index):
    made = first(loader, index, squares)["images"]
    as_array = first(loader, index, lambda pictures, keys: squares(pictures, keys).numpy())["images"]
    assert made.shape == (6, 3, 8, 8)
    assert torch.equal(made, as_array)


@both
@pytest.mark.parametrize(
    ("made", "found"),
    [
        (lambda n: batch(n, 8, 8, 3, dtype=torch.float32), r"float32 \[6, 8, 8, 3\]"),
        (lambda n: batch(n, 3, 8, 8), r"uint8 \[6, 3, 8, 8\]"),
        (lambda n: batch(n, 8, 8, 1), r"uint8 \[6, 8, 8, 1\]"),
        (lambda n: batch(n, 8, 0, 3), r"uint8 \[6, 8, 0, 3\]"),
        (lambda n: batch(8, 8, 3), r"uint8 \[8, 8, 3\]"),
        (lambda n: batch(2, 8, 8, 3), r"uint8 \[2, 8, 8, 3\]"),
        (lambda n: np.ones((n, 8, 8, 3)), r"float64 \[6, 8, 8, 3\]"),
        (lambda n: np.array(["a"] * n), r"<U1 \[6\]"),
        (lambda n: None, "None"),
        (lambda n: [batch(8, 8, 3)] * n, "a list"),
        (lambda n: (batch(n, 8, 8, 3), None), "a tuple"),
        (lambda n: v2.functional.to_pil_image(batch(3, 8, 8)), "an Image"),
    ],
)
def test_what_is_no_batch_of_bytes_is_told_at_the_first_image(loader, index, made, found):
    told = rf"^transform <lambda> gives {found} for 6 pictures; wanted uint8 \[6, H, W, 3\]; .* PerImage\(f\)$"
    with pytest.raises(ValueError, match=told):
        first(loader, index, lambda pictures, keys: made(len(pictures)))


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("crops.0", (8, 8, 3), r"crops.0: uint8 \[6, 8, 8, 3\] for 6 pictures; wanted uint8 \[6, V, H, W, 3\]"),
        ("crops.0", (2, 3, 8, 8), r"crops.0: uint8 \[6, 2, 3, 8, 8\] for"),
        ("image", (8, 8, 3), 'image; wanted "images", or "crops.0", "crops.1" ...'),
    ],
)
def test_crops_are_looked_at_one_by_one(index, name, shape, told):
    with pytest.raises(ValueError, match=f"transform <lambda> gives {told}"):
        first(TrainLoader, index, lambda pictures, keys: {name: batch(len(pictures), *shape)})


def test_crops_of_one_s_own_are_taken(index):
    made = first(TrainLoader, index, lambda pictures, keys: {"crops.0": batch(len(pictures), 2, 8, 8, 3)})
    assert made["crops.0"].shape == (6, 2, 3, 8, 8)


def test_evaluation_takes_no_crops(index):
    """Before, it gave no batch at all."""
    with pytest.raises(ValueError, match=r'gives crops\.0; wanted "images", evaluation has one view'):
        first(EvalLoader, index, lambda pictures, keys: {"crops.0": batch(len(pictures), 2, 8, 8, 3)})


@both
@pytest.mark.parametrize(
    "transform", [lambda picture: picture, v1.Compose([v1.ToTensor()]), v2.ToImage(), v2.Resize(8)]
)
def test_a_function_of_one_picture_is_told_before_anything_is_read(loader, index, transform):
    with pytest.raises(ValueError, match=r"is not for \(pictures, keys\), which a loader gives it; give PerImage"):
        loader(index, batch_size=6, transform=transform)


@both
def test_what_cannot_be_called_is_no_transform(loader, index):
    with pytest.raises(ValueError, match="transform 'crop' cannot be called"):
        loader(index, batch_size=6, transform="crop")


@pytest.mark.parametrize(
    "transform", [TrainTransform(8), TrainTransform(8, home="device"), MultiCrop([TrainTransform(8)])]
)
def test_evaluation_refuses_what_needs_keys(index, transform):
    with pytest.raises(ValueError, match=f"transform {type(transform).__name__} is for training"):
        EvalLoader(index, batch_size=6, transform=transform)


def test_pictures_of_other_sizes_in_one_batch_are_told(tmp_path):
    """A batch of many pictures is made in parts."""
    index = open_shards(shards(tmp_path, 100, 100))
    told = r"the transform gives images \[64, 64, 3\] and images \[36, 36, 3\] in one batch; .* one size"
    data = EvalLoader(index, batch_size=100, transform=lambda p, keys: batch(len(p), len(p), len(p), 3))
    with data, pytest.raises(ValueError, match=told):
        next(iter(data))


# --- on the device ---


@attrs.frozen
class OnDevice:
    """Cut in the workers, the rest on the device."""

    made: torch.Tensor
    home: str = "device"

    def __call__(self, pictures, keys):
        return squares(pictures, keys)

    def finish(self, images, keys):
        return self.made


def test_what_is_finished_on_the_device_is_looked_at_too(index):
    assert first(TrainLoader, index, OnDevice(batch(6, 4, 4, 3)))["images"].shape == (6, 3, 4, 4)
    with pytest.raises(
        ValueError, match=r"transform OnDevice.finish gives float32 \[6, 3, 4, 4\] for 6 pictures; wanted"
    ):
        first(TrainLoader, index, OnDevice(batch(6, 3, 4, 4, dtype=torch.float32)))


@attrs.frozen
class Half:
    home: str

    def __call__(self, pictures, keys):
        return squares(pictures, keys)


def test_a_home_is_one_that_is_known_and_has_what_it_needs(index):
    with pytest.raises(ValueError, match="transform Half has home 'gpu'; use one of workers, device"):
        TrainLoader(index, batch_size=6, transform=Half("gpu"))
    with pytest.raises(ValueError, match=r"transform Half has home 'device' and no finish\(images, keys\)"):
        TrainLoader(index, batch_size=6, transform=Half("device"))


# --- kept decoded ---


@attrs.frozen
class Floats:
    size: int

    def __call__(self, pictures, keys):
        return squares(pictures, keys) / 255


@attrs.frozen
class Through:
    """What it makes follows from a function, and of that its text says the place in memory alone."""

    function: object

    def __call__(self, pictures, keys):
        return squares(pictures, keys)


def test_floats_are_not_kept_as_bytes(index):
    with pytest.raises(ValueError, match=r"transform Floats gives float32 \[1, 8, 8, 3\]"):
        first(EvalLoader, index, Floats(8), decoded="memory")


def test_what_does_not_say_what_it_makes_is_not_kept(index):
    with pytest.raises(ValueError, match="does not say what it makes of a picture"):
        first(EvalLoader, index, Through(lambda picture: picture), decoded="memory")


# --- other processes ---


def test_where_workers_are_started_afresh_what_cannot_be_sent_is_told_at_once(index, monkeypatch):
    monkeypatch.setattr("blocks.data.loading.transform.start_method", lambda: "spawn")
    TrainLoader(index, batch_size=6, transform=squares, num_workers=1)
    local = lambda pictures, keys: squares(pictures, keys)  # noqa: E731
    TrainLoader(index, batch_size=6, transform=local)
    with pytest.raises(ValueError, match=r"transform <lambda> .* by spawn .* top of a module, or give num_workers=0"):
        TrainLoader(index, batch_size=6, transform=local, num_workers=1)
