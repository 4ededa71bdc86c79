import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from blocks.data.erasing import MODES, RandomErasing, noise
from blocks.random import fold_in, key


def keys(count, seed=0):
    return fold_in(key(seed), torch.arange(count))


def pictures(count=8):
    return torch.randn(count, 3, 10, 12, generator=torch.Generator().manual_seed(0))


def test_images_are_erased_as_often_as_asked():
    rows, _ = RandomErasing(0.25).draw(keys(8000), 16, 16)
    assert abs(len(rows) / 8000 - 0.25) < 5 * (0.25 * 0.75 / 8000) ** 0.5
    assert len(RandomErasing(0.0).draw(keys(1000), 16, 16)[0]) == 0
    assert len(RandomErasing(1.0).draw(keys(1000), 16, 16)[0]) == 1000


def test_boxes_are_distributed_as_torchvisions():
    """Corners and area: means over 2,000 boxes agree within five standard errors with torchvision's own draws."""
    _, ours = RandomErasing(1.0).draw(keys(2000), 24, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transform, image = v2.RandomErasing(1.0, (0.02, 1 / 3), (0.3, 3.3)), torch.zeros(3, 24, 32)
        params = [transform.make_params([image]) for _ in range(2000)]
    theirs = torch.tensor([[p["i"], p["j"], p["h"], p["w"]] for p in params])
    ours, theirs = (torch.cat((x, x[:, 2:].prod(1, keepdim=True)), 1).double() for x in (ours[:, 0], theirs))
    error = (ours.var(0) / 2000 + theirs.var(0) / 2000).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    assert torch.allclose(ours.std(0), theirs.std(0), rtol=0.08)
    top, left, height, width, _ = ours.unbind(1)
    assert top.min() == left.min() == 0
    assert (top + height).max() == 24
    assert (left + width).max() == 32


def test_boxes_have_the_published_areas_and_aspects():
    """From end to end, as often above the middle as below: of the areas evenly, of the aspects by their logarithms."""
    _, boxes = RandomErasing(1.0).draw(keys(2000), 1000, 1000)
    height, width = boxes[:, 0, 2:].double().unbind(1)
    for drawn, low, high in ((height * width / 1e6, 0.02, 1 / 3), ((height / width).log(), *np.log((0.3, 3.3)))):
        span = high - low
        assert low - 0.01 * span < drawn.min() < low + 0.01 * span
        assert high - 0.03 * span < drawn.max() < high + 0.01 * span
        assert abs((drawn > (low + high) / 2).double().mean() - 0.5) < 5 * 0.5 / 2000**0.5


def test_several_boxes_share_the_area():
    _, boxes = RandomErasing(1.0, scale=(0.3, 0.3), ratio=(1.0, 1.0), count=3).draw(keys(500), 100, 100)
    assert boxes.shape == (500, 3, 4)
    assert (boxes[..., 2:] == 32).all()  # sqrt(0.1) of the side
    assert (boxes[:, 0] != boxes[:, 1]).any(1).float().mean() > 0.9


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_box_as_long_as_the_image_does_not_fit(ratio):
    images = pictures()[..., :10]
    assert torch.equal(RandomErasing(1.0, scale=(0.5, 0.5), ratio=(ratio, ratio))(images, keys(8)), images)


def test_a_box_that_never_fits_is_left_out():
    """Of the whole image, so not smaller than it; and larger than its height."""
    erase = RandomErasing(1.0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    for images in (pictures()[..., :10], pictures()):
        assert torch.equal(erase(images, keys(8)), images)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 3])
def test_the_boxes_alone_are_filled(mode, count):
    """Image after image, box after box, pixel after pixel; where boxes overlap the later one stays."""
    erase = RandomErasing(0.6, mode, count=count)
    out, wanted = erase(pictures(), keys(8)), pictures()
    for row, boxes in zip(*(x.tolist() for x in erase.draw(keys(8), 10, 12)), strict=True):
        for number, (top, left, height, width) in enumerate(boxes):
            own = fold_in(keys(8)[row], 1 + number)
            for pixel in range(height * width):
                y, x = top + pixel // width, left + pixel % width
                colour = noise(own[None], torch.tensor([12 * y + x if mode == "pixel" else 0]))[0]
                wanted[row, :, y, x] = torch.zeros(3) if mode == "const" else colour
    assert torch.equal(out, wanted)
    assert not torch.equal(out, pictures())


def test_noise_is_standard_normal_and_independent():
    """Kolmogorov and Smirnov's test; no correlation between channels, pixels or keys above five standard errors."""
    values = noise(keys(2).repeat_interleave(10_000, 0), torch.arange(10_000).repeat(2)).double()
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3
    assert (torch.corrcoef(values.T) - torch.eye(3)).abs().max() < 5 / 20_000**0.5
    one, two = values.view(2, 10_000, 3)
    columns = torch.cat((one[:-1], one[1:], two[:-1]), 1)
    assert (torch.corrcoef(columns.T) - torch.eye(9)).abs().max() < 5 / 10_000**0.5


def test_an_image_depends_on_its_own_key_alone():
    images, rows, erase = pictures(40), torch.tensor([25, 2, 7]), RandomErasing(0.6, count=2)
    out = erase(images, keys(40))
    assert torch.equal(erase(images[rows], keys(40)[rows]), out[rows])
    assert not torch.equal(out[rows], images[rows])


def test_it_changes_its_argument_only_when_asked():
    images = pictures()
    before, state = images.clone(), torch.random.get_rng_state()
    erase = RandomErasing(1.0)
    out = erase(images, keys(8))
    assert torch.equal(images, before)
    assert erase.erase_(images, keys(8)) is images
    assert torch.equal(images, out)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("mode", MODES)
def test_the_host_never_waits_for_the_device(mode):
    """The meta device has no values that a host could read."""
    images = torch.empty(8, 3, 10, 12, device="meta")
    assert RandomErasing(0.6, mode, count=2)(images, keys(8)).shape == images.shape


def test_half_precision_images_are_erased():
    images = torch.zeros(8, 3, 10, 12, dtype=torch.bfloat16)
    out = RandomErasing(1.0)(images, keys(8))
    assert torch.equal(out, RandomErasing(1.0)(images.float(), keys(8)).bfloat16())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prob": 1.5}, "prob 1.5"),
        ({"mode": "noise"}, "pixel.*const.*rand"),
        ({"scale": (0.5, 0.1)}, "scale"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
        ({"count": 0}, "count"),
    ],
)
def test_an_erasing_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        RandomErasing(**options)
