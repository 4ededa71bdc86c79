"""Functions of one picture as transforms."""

import random

import numpy as np
import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

from blocks.data import EvalLoader, PerImage, TrainLoader, open_shards, write_dataset
from blocks.data.decode import Encoded
from tests.data.draws import keys
from tests.data.pictures import encoded, picture, shards

IMAGES = [picture(i, 20 + i, 30 - i) for i in range(4)]


def small(image):
    return image.resize((8, 6))


def noise(image):
    """A picture of what each of the three generators draws, and of nothing else."""
    drawn = [torch.rand(()).item(), np.random.rand(), random.random()]
    return np.full((2, 2, 3), [int(256 * one) for one in drawn], np.uint8)


@pytest.mark.parametrize(
    "function",
    [
        small,
        lambda image: np.asarray(small(image)),
        lambda image: torch.from_numpy(np.array(small(image))).permute(2, 0, 1),
        v2.Compose([v2.Resize((6, 8), v2.InterpolationMode.BICUBIC), v2.PILToTensor()]),
        v2.Compose([v2.Lambda(small), v2.ToImage()]),
        v1.Compose([v1.Lambda(small), v1.PILToTensor()]),
    ],
)
def test_a_picture_a_channels_first_tensor_and_an_array_are_the_same(function):
    wanted = np.stack([np.asarray(small(image)) for image in IMAGES])
    made = PerImage(function)(IMAGES, keys(4))
    assert type(made) is torch.Tensor
    assert np.array_equal(made.numpy(), wanted)


def test_the_function_gets_rgb_of_whatever_is_stored():
    modes = []
    grey = Encoded(encoded(picture(0, mode="L")), "a")
    made = PerImage(lambda image: modes.append(image.mode) or image.convert("L"))([grey, picture(0, mode="P")])
    assert modes == ["RGB", "RGB"]
    assert torch.equal(made[..., 0], made[..., 2])


def test_what_is_drawn_is_a_function_of_the_key_alone():
    transform = PerImage(noise)
    whole = transform(IMAGES, keys(4))
    random.seed(1)
    assert torch.equal(transform(IMAGES[2:], keys(4)[2:]), whole[2:])
    assert torch.equal(transform(IMAGES[::-1], keys(4).flip(0)), whole.flip(0))
    assert len(torch.unique(whole)) == whole[:, 0, 0].numel()  # three generators, four pictures: nothing twice


def test_without_keys_nothing_changes_from_call_to_call():
    assert torch.equal(PerImage(noise)(IMAGES), PerImage(noise)(IMAGES))


@pytest.mark.parametrize("fails", [False, True])
def test_global_random_numbers_go_on_as_if_nothing_had_been_drawn(fails):
    def seed():
        torch.manual_seed(0), np.random.seed(0), random.seed(0)

    def function(image):
        made = noise(image)
        return {} if fails else made

    seed()
    wanted = noise(None)
    seed()
    if fails:
        with pytest.raises(ValueError, match="gives a dict"):
            PerImage(function)(IMAGES, keys(4))
    else:
        PerImage(function)(IMAGES, keys(4))
    assert np.array_equal(noise(None), wanted)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (torch.rand(3, 8, 8), r"float32 \[3, 8, 8\]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"uint8 \[8, 8, 3\]"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), r"uint8 \[1, 8, 8\]"),
        (torch.zeros(3, 8, 0, dtype=torch.uint8), r"uint8 \[3, 8, 0\]"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \[3, 8, 8\]"),
        (np.zeros((8, 8, 3)), r"float64 \[8, 8, 3\]"),
        (np.zeros((8, 8), np.uint8), r"uint8 \[8, 8\]"),
        (None, "None"),
        ({"image": picture(0)}, "a dict"),
        ((picture(0), 3), "a tuple"),
    ],
)
def test_what_is_no_picture_of_bytes_is_told(made, found):
    told = rf"^PerImage\(function\) gives {found}; wanted a PIL image, a tensor uint8 \[3, H, W\] or an array uint8 "
    told += r"\[H, W, 3\], neither scaled nor normalised: the loader does that$"

    def function(image):
        return made

    with pytest.raises(ValueError, match=told):
        PerImage(function)(IMAGES, keys(4))


def test_pictures_of_other_sizes_are_told():
    with pytest.raises(
        ValueError, match=r"gives \[8, 16, 3\] and before \[8, 8, 3\]; end with a resize or a crop to one"
    ):
        PerImage(lambda image: image.resize((8 if image.width == 30 else 16, 8)))(IMAGES, keys(4))


def test_an_error_of_the_function_has_the_picture_s_name():
    def function(image):
        raise KeyError("wrong")

    with pytest.raises(KeyError) as raised:
        PerImage(function)([Encoded(encoded(picture(0)), "a.tar, sample 0001")], keys(1))
    assert raised.value.__notes__ == ["in PerImage(function), of a.tar, sample 0001"]


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="function 3 cannot be called"):
        PerImage(3)


def test_drawing_on_one_copy_leaves_the_others_as_they_are():
    """Repeated augmentation hands over one picture several times."""

    def function(image):
        seen.append(image.getpixel((0, 0)))
        image.paste((0, 0, 0), (0, 0, 5, 5))
        return image

    for given in (picture(0), Encoded(encoded(picture(0)), "a")):
        seen = []
        PerImage(function)([given] * 3, keys(3))
        assert seen == [picture(0).getpixel((0, 0))] * 3


# --- in a loader ---


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, 12, 12))


CROPS = v2.Compose([v2.RandomResizedCrop(8), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4), v2.PILToTensor()])


def test_workers_and_restarts_change_nothing(index):
    def images(num_workers, start, count):
        options = dict(batch_size=5, transform=PerImage(CROPS), seed=2, num_workers=num_workers)
        with TrainLoader(index, **options) as data:
            return [batch["images"] for batch, _ in zip(data.batches(start), range(count), strict=False)]

    alone = images(0, 0, 4)
    torch.manual_seed(7)
    assert all(map(torch.equal, images(2, 0, 4), alone))
    assert all(map(torch.equal, images(0, 2, 2), alone[2:]))
    assert not torch.equal(alone[0], alone[1])


def test_evaluation_with_a_function_of_one_s_own(index):
    transform = PerImage(v2.Compose([v2.Resize((8, 8)), v2.PILToTensor()]))
    with EvalLoader(index, batch_size=5, transform=transform) as data:
        alone = torch.cat([batch["images"] for batch in data])
    assert alone.shape == (12, 3, 8, 8)


def test_evaluation_keeps_the_pictures_decoded_and_not_what_an_unnamed_function_makes(tmp_path):
    write_dataset([(f"{i}", picture(i), 0) for i in range(6)], tmp_path / "s", workers=0, progress=False)
    index = open_shards(tmp_path / "s")
    for function, size in ((lambda image: image.resize((8, 8)), 8), (lambda image: image.resize((4, 4)), 4)):
        with EvalLoader(index, batch_size=6, decoded="memory", transform=PerImage(function)) as data:
            assert next(iter(data))["images"].shape == (6, 3, size, size)
