import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import normalize, resize

from blocks.objectives.adapted import IMAGENET_MEAN, IMAGENET_STD, Adapted

HALF = ((0.5, 0.5, 0.5), (0.25, 0.5, 1.0))


def images(size=(12, 12)):
    """In [0, 1]."""
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def seen(params, x):
    """A teacher that says what it sees."""
    return x


def test_images_of_one_normalisation_become_those_of_the_other():
    x = images()
    batch = normalize(x, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(Adapted(seen, None, *HALF)({}, batch), normalize(x, *HALF))
    back = Adapted(seen, from_mean=HALF[0], from_std=HALF[1])
    torch.testing.assert_close(back({}, normalize(x, *HALF)), batch)


@pytest.mark.parametrize("size", [8, 20, (6, 30)])
def test_images_are_resized_as_torchvision_does(size):
    x = normalize(images(), IMAGENET_MEAN, IMAGENET_STD)
    target = [size, size] if isinstance(size, int) else list(size)
    expected = resize(x, target, InterpolationMode.BICUBIC, antialias=True)
    torch.testing.assert_close(Adapted(seen, size)({}, x), expected)


def test_nothing_is_computed_where_nothing_differs():
    x = images()
    assert Adapted(seen)({}, x) is x
    assert Adapted(seen, 12)({}, x) is x


def test_half_precision_stays_and_is_resized_in_single():
    x = images().bfloat16()
    y = Adapted(seen, 20)({}, x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, Adapted(seen, 20)({}, x.float()).bfloat16())
    assert Adapted(seen, 20, *HALF)({}, x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 0}, "img_size 0 is not a number of pixels"),
        ({"img_size": (8, -1)}, r"img_size \(8, -1\) is not"),
        ({"mean": (0.5,)}, "mean .* is not one number a channel"),
        ({"std": (0.5, 0.5)}, "std .* is not three deviations above 0"),
        ({"from_std": (0.5, 0.0, 0.5)}, "from_std .* is not three deviations above 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adapted(seen, **options)
