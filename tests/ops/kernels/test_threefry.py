"""Threefry's words in one launch, against the reference in tensor operations."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from blocks.ops.kernels import threefry as kernels
from blocks.ops.threefry import words_of
from blocks.threefry import threefry_reference
from tests.test_threefry import VECTORS, keys_and_counters, words


def check(key, counter):
    found = words_of(key, counter, impl="triton")
    assert found.dtype == torch.int32
    assert torch.equal(found, threefry_reference(key, counter))


@pytest.mark.parametrize(("key", "counter", "wanted"), VECTORS)
def test_it_gives_the_published_words(device, key, counter, wanted):
    found = words_of(words(*key).to(device), words(*counter).to(device), impl="triton")
    assert torch.equal(found.cpu(), words(*wanted))


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_any_number_of_words(device, count):
    check(*(x.to(device) for x in keys_and_counters(count)))


def test_offsets_may_be_wide(device, monkeypatch):
    monkeypatch.setattr(kernels, "FURTHEST", 100)
    check(*(x.to(device) for x in keys_and_counters(300)))


@pytest.mark.parametrize(
    "shapes",
    [
        ((2,), (5, 2)),
        ((5, 2), (2,)),
        ((3, 1, 2), (7, 2)),
        ((3, 2, 1, 2), (5, 2)),
        ((4, 1, 2), (1, 3, 2)),
        ((1, 3, 2), (4, 1, 2)),
        ((4, 1, 3, 2), (5, 1, 2)),
    ],
)
def test_keys_and_counters_broadcast(device, shapes):
    sizes = [torch.Size(shape[:-1]).numel() for shape in shapes]
    check(*(keys_and_counters(60)[i][:size].view(shapes[i]).to(device) for i, size in enumerate(sizes)))


def test_views_of_any_order(device):
    key, counter = (x.to(device) for x in keys_and_counters(24))
    check(key[::2].flip(-1), counter.view(12, 2, 2)[:, 1])
    check(key.view(4, 6, 2).transpose(0, 1), counter.view(6, 4, 2))


def test_on_a_gpu_whatever_draws_comes_here():
    asked = 'torch._C._dispatch_has_kernel_for_dispatch_key("blocks::threefry", "CUDA")'
    code = f"import torch, blocks.random; raise SystemExit(not {asked})"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_the_kernel_cannot_do_is_said(device):
    key, counter = (x.to(device) for x in keys_and_counters(3))
    with pytest.raises(ValueError, match=r"torch\.int64"):
        words_of(key.long(), counter, impl="triton")
    assert torch.equal(words_of(key, counter), threefry_reference(key, counter))
