import attrs
import numpy as np
import pytest
import torch
from scipy import stats
from timm.data.mixup import mixup_target, rand_bbox

from blocks.data.beta import NUMBERS, symmetric_beta
from blocks.data.mixing import MODES, Mixing, partners
from blocks.random import fold_in, key, uniform

CLASSES = 5
BLEND, CUT = {"switch_prob": 0.0}, {"switch_prob": 1.0}


def batch(size, height=6, width=8):
    generator = torch.Generator().manual_seed(size)
    images = torch.randn(size, 3, height, width, generator=generator)
    return images, torch.randint(CLASSES, (size,), generator=generator), torch.arange(size)


def draws(count, **options):
    """Many independent mixtures of 20 x 30 images."""
    options = {"mode": "elem", **options}
    return Mixing(CLASSES, **options).draw(key(1), torch.arange(count), 20, 30)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_lambda_has_the_distribution_beta(alpha):
    """Kolmogorov and Smirnov's test, on the function, and on the lambdas of MixUp and of CutMix."""
    numbers = uniform(key(0), (20_000, NUMBERS)).double() + 2**-25
    blended = draws(20_000, mixup_alpha=alpha, **BLEND)
    cut = draws(20_000, cutmix_alpha=alpha, correct_lam=False, **CUT)
    for lam in (symmetric_beta(torch.tensor(alpha), numbers), blended.lam, cut.lam):
        assert stats.kstest(lam.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
        assert abs(lam.mean() - 0.5) < 5 * lam.std() / 20_000**0.5


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 1e4])
def test_lambda_is_a_share_for_extreme_alphas(alpha):
    lam = draws(4000, mixup_alpha=alpha, **BLEND).lam
    assert ((lam >= 0) & (lam <= 1)).all()
    assert abs((lam < 0.5).double().mean() - 0.5) < 0.04


def test_images_are_mixed_and_cut_as_often_as_asked():
    mixture = draws(10_000, prob=0.7, switch_prob=0.3)
    assert abs((mixture.lam < 1).double().mean() - 0.7) < 0.02
    assert abs(mixture.cut.double().mean() - 0.7 * 0.3) < 0.02
    assert not draws(1000, prob=0.0).cut.any()
    assert (draws(1000, prob=0.0).lam == 1).all()
    assert draws(1000, mixup_alpha=0.0, switch_prob=0.1).cut.all()
    assert not draws(1000, cutmix_alpha=0.0, switch_prob=0.9).cut.any()


def test_boxes_are_distributed_as_timms():
    """Corners and pasted area: means over 4,000 boxes agree within five standard errors with timm's own draws."""
    ours = draws(4000, cutmix_alpha=1.0, **CUT)
    top, left, height, width = ours.box.unbind(1)
    ours = torch.stack((top, top + height, left, left + width, height * width), 1).double()
    state = np.random.get_state()
    np.random.seed(0)
    theirs = [[int(x) for x in rand_bbox((3, 20, 30), np.random.beta(1, 1))] for _ in range(4000)]
    np.random.set_state(state)
    theirs = torch.tensor([[yl, yh, xl, xh, (yh - yl) * (xh - xl)] for yl, yh, xl, xh in theirs]).double()
    error = (ours.var(0) / 4000 + theirs.var(0) / 4000).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    assert torch.allclose(ours.std(0), theirs.std(0), rtol=0.06)


def test_sides_of_a_box_can_be_given_as_shares():
    """Every side from the smallest to the largest comes equally often, at every place inside."""
    mixture = draws(10_000, cutmix_minmax=(0.25, 0.5), mixup_alpha=0.0, cutmix_alpha=0.0)
    top, left, height, width = mixture.box.unbind(1)
    for start, side, size in ((top, height, 20), (left, width, 30)):
        counts = torch.bincount(side)[int(0.25 * size) :]
        assert len(counts) == size // 2 - int(0.25 * size) + 1
        assert ((counts - 10_000 / len(counts)).abs() < 5 * (10_000 / len(counts)) ** 0.5).all()
        assert start.min() == 0
        assert (start + side).max() == size
    assert torch.equal(mixture.lam, 1 - (height * width).double() / 600)
    together = torch.corrcoef(mixture.box.T.double())[::2, 1::2]  # of top and height with left and width
    assert (together.abs() < 5 / 10_000**0.5).all()


def slow(mixing, images, labels, step_key, index):
    """One image after the other, as the papers say."""
    out, targets = images.clone(), torch.empty(len(images), CLASSES, dtype=torch.float64)
    for row, place in enumerate(index.tolist()):
        other = row ^ 1 if row ^ 1 < len(images) else max(row - 1, 0)
        own = {"batch": step_key, "pair": fold_in(step_key, place // 2), "elem": fold_in(step_key, place)}[mixing.mode]
        mixture = attrs.evolve(mixing, mode="batch").draw(own, index, *images.shape[2:])
        lam, (top, left, height, width) = mixture.lam.item(), mixture.box[0].tolist()
        if mixture.cut:
            inside = (slice(None), slice(top, top + height), slice(left, left + width))
            out[row][inside] = images[other][inside]
        else:
            out[row] = lam * images[row] + (1 - lam) * images[other]
        one, two = (torch.eye(CLASSES, dtype=torch.float64)[labels[i]] for i in (row, other))
        smooth = mixing.label_smoothing
        targets[row] = (1 - smooth) * (lam * one + (1 - lam) * two) + smooth / CLASSES
    return out, targets.float()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [6, 7, 1])
@pytest.mark.parametrize("options", [{}, CUT, BLEND, {"prob": 0.5}, {"correct_lam": False, **CUT}])
def test_a_batch_is_mixed_as_one_image_after_the_other(mode, size, options):
    mixing = Mixing(CLASSES, mode=mode, label_smoothing=0.1, **options)
    images, labels, index = batch(size)
    before = images.clone(), labels.clone()
    for step in range(2):
        mixed, targets = mixing(images, labels, key(step), index)
        wanted, wanted_targets = slow(mixing, images, labels, key(step), index)
        torch.testing.assert_close(mixed, wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(targets, wanted_targets, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(targets.sum(1), torch.ones(size), rtol=0, atol=1e-6)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("mode", MODES)
def test_lambda_is_exactly_the_area_that_was_not_pasted(mode):
    """Images of 0 beside images of 1: the pasted pixels can be counted."""
    mixing = Mixing(2, mode=mode, **CUT)
    images = (torch.arange(20) % 2).float().view(20, 1, 1, 1).expand(20, 3, 9, 13)
    labels, index = torch.arange(20) % 2, torch.arange(20)
    for step in range(5):
        mixed, targets = mixing(images, labels, key(step), index)
        pasted = (mixed != images).any(1).sum((1, 2))
        lam = mixing.draw(key(step), index, 9, 13).lam
        assert torch.equal(lam.expand(20), 1 - pasted.double() / (9 * 13))
        own = targets[torch.arange(20), labels]
        torch.testing.assert_close(own, lam.float().expand(20), rtol=0, atol=2e-7)  # a float32 rounding


def test_smoothed_targets_are_timms():
    """Of two images the partners are the same in both."""
    mixing = Mixing(CLASSES, label_smoothing=0.1)
    images, labels, index = batch(2)
    for step in range(5):
        lam = mixing.draw(key(step), index, 6, 8).lam.item()
        _, targets = mixing(images, labels, key(step), index)
        torch.testing.assert_close(targets, mixup_target(labels, CLASSES, lam, 0.1), rtol=1e-6, atol=1e-7)


def test_what_shares_a_draw():
    index = torch.arange(40)
    lam = {mode: Mixing(CLASSES, mode=mode, **BLEND).draw(key(0), index, 6, 8).lam for mode in MODES}
    assert [len(lam[mode].unique()) for mode in MODES] == [1, 20, 40]
    assert torch.equal(lam["pair"][::2], lam["pair"][1::2])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shares", [2, 3, 6])
def test_shares_of_a_batch_are_mixed_as_the_whole(mode, shares):
    mixing = Mixing(CLASSES, mode=mode, label_smoothing=0.1)
    images, labels, index = batch(12)
    for step in range(4):
        parts = [
            mixing(*part, key(step), place)
            for *part, place in zip(*(x.chunk(shares) for x in (images, labels, index)), strict=True)
        ]
        for whole, *split in zip(mixing(images, labels, key(step), index), *parts, strict=True):
            assert torch.equal(torch.cat(split), whole)


def test_an_image_that_is_not_mixed_is_left_as_it_is():
    images, labels, index = batch(6)
    mixed, targets = Mixing(CLASSES, prob=0.0)(images, labels, key(0), index)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.eye(CLASSES)[labels])


@pytest.mark.parametrize("mode", MODES)
def test_the_images_may_be_had_without_their_targets(mode):
    images, labels, index = batch(6)
    mixing = Mixing(CLASSES, mode=mode)
    for step in range(3):
        alone = mixing.pictures(images, key(step), index)
        assert torch.equal(alone, mixing(images, labels, key(step), index)[0])


def test_labels_may_be_probabilities():
    mixing = Mixing(CLASSES, label_smoothing=0.1)
    images, labels, index = batch(6)
    hard = mixing(images, labels, key(0), index)
    soft = mixing(images, torch.eye(CLASSES)[labels], key(0), index)
    assert all(torch.equal(a, b) for a, b in zip(hard, soft, strict=True))
    with pytest.raises(ValueError, match="labels of 4 classes cannot be mixed for num_classes 5"):
        mixing(images, torch.zeros(6, 4), key(0), index)
    with pytest.raises(ValueError, match="num_classes 0 mixes images without labels"):
        Mixing(0)(images, labels, key(0), index)


def test_a_partner_is_the_neighbour():
    assert partners(6).tolist() == [1, 0, 3, 2, 5, 4]
    assert partners(5).tolist() == [1, 0, 3, 2, 3]
    assert partners(1).tolist() == [0]


@pytest.mark.parametrize("mode", MODES)
def test_the_host_never_waits_for_the_device(mode):
    """The meta device has no values that a host could read; key and places are the host's, or lie there too."""
    images, labels, index = batch(6)
    for device in ("cpu", "meta"):
        mixing = Mixing(CLASSES, mode=mode, cutmix_minmax=(0.2, 0.8) if mode == "pair" else None)
        mixed, targets = mixing(images.to("meta"), labels.to("meta"), key(0).to(device), index.to(device))
        assert mixed.shape == images.shape
        assert targets.shape == (6, CLASSES)


def test_a_mixture_is_a_function_of_its_key():
    images, labels, index = batch(6)
    before = torch.random.get_rng_state()
    first, again, other = (Mixing(CLASSES)(images, labels, key(seed), index)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, "one of them above 0"),
        ({"mixup_alpha": -1.0}, "mixup_alpha -1"),
        ({"prob": 1.1}, "prob 1.1"),
        ({"switch_prob": -0.1}, "switch_prob -0.1"),
        ({"label_smoothing": 2.0}, "label_smoothing 2"),
        ({"mode": "half"}, "batch.*pair.*elem"),
        ({"cutmix_minmax": (0.8, 0.2)}, "cutmix_minmax"),
        ({"cutmix_minmax": (0.5, 1.5)}, "cutmix_minmax"),
        ({"num_classes": -1}, "num_classes -1"),
        ({"cutmix_minmax": (0.2, 0.8), "correct_lam": False}, "correct_lam=True"),
    ],
)
def test_a_mixing_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Mixing(**{"num_classes": CLASSES, **options})
