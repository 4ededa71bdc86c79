"""Keys: same key, same numbers, however they are drawn; different keys or places, other numbers."""

import math

import pytest
import torch

from blocks.random import (
    bernoulli,
    bits,
    fold_in,
    key,
    normal,
    per_sample,
    split,
    truncated_normal,
    uniform,
)

DRAWS = {
    "bits": bits,
    "uniform": uniform,
    "uniform64": lambda k, shape: uniform(k, shape, torch.float64),
    "normal": normal,
    "truncated_normal": truncated_normal,
    "bernoulli": lambda k, shape: bernoulli(k, 0.3, shape),
}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@each_draw
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (4, 0, 2)])
def test_a_batch_of_keys_gives_each_keys_own_numbers(draw, shape):
    keys = split(key(0), 6).view(2, 3, 2)
    batch = draw(keys, shape)
    assert batch.shape == (2, 3, *shape)
    assert torch.equal(batch[1, 2], draw(keys[1, 2], shape))


@each_draw
def test_vmap_over_keys_equals_the_batch(draw):
    keys = split(key(1), 4)
    assert torch.equal(torch.vmap(lambda k: draw(k, (5,)))(keys), draw(keys, (5,)))


@each_draw
def test_a_shorter_draw_is_a_prefix_of_a_longer_one(draw):
    long = draw(key(2), (51,))
    for count in (1, 2, 7, 50):
        assert torch.equal(draw(key(2), (count,)), long[:count])
    assert torch.equal(draw(key(2), (3, 17)), long.view(3, 17))
    assert torch.equal(draw(key(2), ()), long[0])


def test_the_first_words_of_the_first_key_are_the_published_ones():
    """A run that goes on by another version of this library draws what it would have drawn."""
    assert (bits(key(0), (2,)).long() & 0xFFFFFFFF).tolist() == [0x6B200159, 0x99BA4EFE]


@each_draw
def test_a_key_gives_the_same_numbers_again_and_the_global_state_is_untouched(draw):
    before = torch.get_rng_state()
    assert torch.equal(draw(key(3), (9,)), draw(key(3), (9,)))
    assert not torch.equal(draw(key(3), (99,)), draw(key(4), (99,)))
    assert torch.equal(torch.get_rng_state(), before)


def every_draw(k):
    keys = fold_in(split(per_sample(k, 3))[:, 1], torch.arange(3))
    return [draw(keys, (5, 2)) for draw in DRAWS.values()]


def one_draw(k):
    return [uniform(k, (5,))]


@pytest.mark.parametrize(("backend", "function"), [("aot_eager", every_draw), ("inductor", one_draw)])
def test_compiled_numbers_equal_eager_ones(backend, function):
    found = torch.compile(function, fullgraph=True, backend=backend)(key(5))
    assert all(torch.equal(a, b) for a, b in zip(found, function(key(5)), strict=True))


def test_folding_splitting_and_drawing_never_overlap():
    """With one key: 1,000 numbers, 1,000 folded and 1,000 split keys, 3,000 different blocks."""
    blocks = torch.cat((bits(key(6), (1000, 2)), fold_in(key(6), torch.arange(1000)), split(key(6), 1000)))
    assert blocks.unique(dim=0).shape[0] == 3000


def test_fold_in_takes_an_int_or_a_tensor_and_broadcasts():
    keys = split(key(7), 3)
    assert torch.equal(fold_in(key(7), 5), fold_in(key(7), torch.tensor(5)))
    assert torch.equal(fold_in(keys, 5)[1], fold_in(keys[1], 5))
    table = fold_in(keys[:, None], torch.arange(4))
    assert table.shape == (3, 4, 2)
    assert torch.equal(table[2, 3], fold_in(keys[2], 3))


@pytest.mark.parametrize("data", [-1, 1 << 31, 1.5, torch.tensor(1.5)])
def test_what_would_be_rounded_to_another_number_s_key_is_not_folded(data):
    with pytest.raises(ValueError, match="is nothing to fold into a key; use whole numbers from 0 to"):
        fold_in(key(7), data)


def test_more_splits_keep_the_first_ones():
    assert torch.equal(split(key(8), 2), split(key(8), 9)[:2])


def test_per_sample_folds_one_key_and_takes_many():
    keys = per_sample(key(9), 4)
    assert torch.equal(keys[3], fold_in(key(9), 3))
    assert torch.equal(per_sample(keys, 4), keys)
    with pytest.raises(ValueError, match="4 keys for a batch of 5"):
        per_sample(keys, 5)


def test_every_seed_of_64_bits_is_another_key():
    seeds = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    assert torch.stack([key(s) for s in seeds]).unique(dim=0).shape[0] == len(seeds)
    for seed in (-1, 2**64, 0.5):
        with pytest.raises(ValueError, match=f"seed {seed} is out of range"):
            key(seed)


@pytest.mark.parametrize("no_key", [7, torch.zeros(2), torch.zeros(3, dtype=torch.int32)])
def test_what_is_no_key_is_refused_wherever_one_is_taken(no_key):
    for taken in (split, bits, lambda k: fold_in(k, 0), lambda k: per_sample(k, 1)):
        with pytest.raises(ValueError, match="is no key, an int32 tensor"):
            taken(no_key)


def within(values, mean, variance):
    """Sample mean within 4 standard errors, sample variance within 5 % (of 20,000)."""
    count = values.numel()
    assert abs(values.double().mean() - mean) < 4 * math.sqrt(variance / count)
    assert values.double().var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_uniforms_have_the_right_moments_and_range(dtype):
    x = uniform(key(10), (20000,), dtype)
    within(x, 0.5, 1 / 12)
    assert x.dtype == dtype
    assert x.min() >= 0
    assert x.max() < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_have_the_right_moments_and_are_finite(dtype):
    x = normal(key(11), (20000,), dtype)
    within(x, 0, 1)
    assert x.dtype == dtype
    assert x.isfinite().all()
    assert (x.abs() > 1.959964).double().mean() == pytest.approx(0.05, rel=0.15)


def test_the_least_and_the_greatest_word_are_numbers_too(monkeypatch):
    ends = torch.tensor([0, -1], dtype=torch.int32)
    monkeypatch.setattr("blocks.random.bits", lambda key, shape: ends)
    low, high = normal(key(0), (2,), torch.float64).tolist()
    assert -math.inf < low == pytest.approx(-high)
    assert uniform(key(0), (2,)).tolist() == [0, 1 - 2**-24]
    monkeypatch.setattr("blocks.random.bits", lambda key, shape: ends[:, None].expand(shape))
    assert uniform(key(0), (2,), torch.float64).tolist() == [0, 1 - 2**-53]


def test_truncated_normals_stay_inside_with_the_right_moments():
    x = truncated_normal(key(12), (20000,), -2, 2)
    within(x, 0, 0.7737)  # 1 - 2 * 2 phi(2) / (Phi(2) - Phi(-2))
    assert x.abs().max() <= 2
    one_sided = truncated_normal(key(12), (20000,), 0, math.inf)
    within(one_sided, math.sqrt(2 / math.pi), 1 - 2 / math.pi)
    with pytest.raises(ValueError, match="not below"):
        truncated_normal(key(0), (), 2, 2)


def test_where_there_is_too_little_of_a_normal_distribution_none_is_drawn():
    """Beyond 8 deviations double precision told nothing apart from infinity."""
    far = truncated_normal(key(1), (20000,), 4.5, math.inf)
    assert far.min() > 4.5
    assert far.max() < 8
    for bounds in ((8, 9), (-9, -8), (6, math.inf)):
        with pytest.raises(ValueError, match=f"too little of .* lies between lower {bounds[0]} and"):
            truncated_normal(key(0), (4,), *bounds)


def test_bernoullis_have_their_probability_and_take_a_tensor_of_them():
    within(bernoulli(key(13), 0.3, (20000,)), 0.3, 0.21)
    p = torch.tensor([0.0, 0.5, 1.0])
    x = bernoulli(key(13), p, (2000, 3)).double().mean(0)
    assert x[0] == 0
    assert x[2] == 1
    assert abs(x[1] - 0.5) < 0.05


def test_numbers_of_neighbouring_keys_are_uncorrelated():
    x = normal(per_sample(key(14), 40), (500,), torch.float64)
    correlation = torch.corrcoef(x) - torch.eye(40)
    assert correlation.abs().max() < 5 / math.sqrt(500)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_draw
def test_a_gpu_gives_the_same_numbers(draw):
    assert torch.equal(draw(key(15, "cuda"), (99,)).cpu(), draw(key(15), (99,)))
