"""Threefry-2x32 against the published vectors, and every implementation against the reference."""

import pytest
import torch

from blocks import threefry as implementation
from blocks.threefry import threefry, threefry_reference

VECTORS = [  # key, counter, words: Random123's kat_vectors, threefry2x32 with 20 rounds
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def words(*pair):
    return torch.tensor(pair, dtype=torch.int64).to(torch.int32)


def keys_and_counters(count):
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(-(2**31), 2**31, (2, count, 2), generator=generator)
    return draw.to(torch.int32).unbind(0)


@pytest.mark.parametrize("repeats", [1, 50])  # few blocks, many blocks
@pytest.mark.parametrize("function", [threefry, threefry_reference])
@pytest.mark.parametrize(("key", "counter", "wanted"), VECTORS)
def test_it_gives_the_published_words(key, counter, wanted, function, repeats):
    found = function(words(*key).expand(repeats, 2), words(*counter))
    assert torch.equal(found, words(*wanted).expand(repeats, 2))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100])
def test_the_cpu_kernel_equals_the_reference_across_its_boundaries(count, monkeypatch):
    monkeypatch.setattr(implementation, "KERNEL_CHUNK", 32)
    key, counter = keys_and_counters(count)
    assert torch.equal(threefry(key, counter), threefry_reference(key, counter))


@pytest.mark.parametrize("shapes", [((2,), (5, 2)), ((5, 2), (2,)), ((3, 1, 2), (7, 2)), ((40, 1, 2), (1, 3, 2))])
def test_keys_and_counters_broadcast(shapes):
    key, counter = (keys_and_counters(200)[i][: torch.Size(s[:-1]).numel()].view(s) for i, s in enumerate(shapes))
    found = threefry(key, counter)
    assert found.shape == torch.broadcast_shapes(*shapes)
    assert torch.equal(found, threefry_reference(key, counter))


def test_it_takes_views_and_leaves_its_inputs_alone():
    key, counter = keys_and_counters(60)
    views = key[::2].flip(-1), counter[::2].flip(-1)
    before = [v.clone() for v in views]
    assert torch.equal(threefry(*views), threefry_reference(*before))
    assert all(torch.equal(a, b) for a, b in zip(views, before, strict=True))


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (1, 0)])
def test_vmap_equals_the_loop(in_dims):
    key, counter = (x.view(5, 5, 2) for x in keys_and_counters(25))
    found = torch.vmap(threefry, in_dims)(key, counter)
    for i in range(found.shape[0]):
        one = [x if d is None else x.select(d, i) for x, d in zip((key, counter), in_dims, strict=True)]
        assert torch.equal(found[i], threefry(*one))


def test_nested_vmap_gives_the_outer_product():
    key, counter = (x[:4] for x in keys_and_counters(4))
    found = torch.vmap(torch.vmap(threefry, (None, 0)), (0, None))(key, counter)
    assert torch.equal(found, threefry(key[:, None], counter))


def test_its_fake_agrees_with_its_kernels():
    torch.library.opcheck(threefry, keys_and_counters(3))
