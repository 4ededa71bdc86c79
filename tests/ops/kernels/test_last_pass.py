"""Bytes normalised, erased and mixed by one kernel: what PyTorch's operations give one after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.erasing import MODES as ERASING
from blocks.data.erasing import RandomErasing
from blocks.data.loading.last_pass import LastPass
from blocks.data.loading.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize
from blocks.data.mixing import MODES as MIXING
from blocks.data.mixing import Mixing
from blocks.random import fold_in, key

pytest.importorskip("triton")
CLASSES, SEED = 5, 3


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(shape)))


def check(device, pictures, step=1, **parts):
    """Pictures and labels are equal; those of PyTorch's operations are made on the same device.

    Mixed they may differ in the last bits: on a CPU torch.lerp rounds once since torch 2.15, twice before.
    """
    count = len(next(iter(pictures.values())))
    last = LastPass(Normalize(IMAGENET_MEAN, IMAGENET_STD, torch.device(device)), seed=SEED, **parts)
    labels, index = (torch.arange(count) % CLASSES).to(device), torch.arange(count) + 6
    keys = fold_in(key(SEED), torch.arange(count))
    found, wanted = (last(pictures, labels, keys, step, index, impl=impl) for impl in ("triton", "torch"))
    assert found[0].keys() == wanted[0].keys()
    for name, made in found[0].items():
        assert made.is_contiguous()
        last_bits = 2e-6 if parts.get("mix") else 0
        torch.testing.assert_close(made, wanted[0][name], rtol=0, atol=last_bits)
    assert torch.equal(found[1], wanted[1])
    return found[0]


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.one_of(st.none(), st.builds(RandomErasing, st.just(0.8), st.sampled_from(ERASING), count=st.integers(1, 2))),
    st.one_of(st.none(), st.builds(Mixing, st.just(CLASSES), mode=st.sampled_from(MIXING))),
    st.integers(0, 3),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_images_of_any_size_with_and_without_each_part(device, shape, erase, mix, step):
    check(device, {"images": noise(*shape, 3)}, step, erase=erase, mix=mix)


@pytest.mark.parametrize("mode", ERASING)
@pytest.mark.parametrize("switch_prob", [0.0, 1.0])
def test_erased_partners_are_mixed_in(device, mode, switch_prob):
    """More than a program's pixels; an odd batch, whose last has a partner that has another."""
    mix = Mixing(CLASSES, mode="elem", switch_prob=switch_prob)
    made = check(device, {"images": noise(3, 20, 30, 3)}, erase=RandomErasing(1.0, mode, count=2), mix=mix)
    assert not torch.equal(made["images"], check(device, {"images": noise(3, 20, 30, 3)})["images"])


def test_every_byte_is_normalised_alike(device):
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    check(device, {"images": every})


def test_each_view_of_crops_has_draws_of_its_own(device):
    same = noise(4, 1, 6, 8, 3).expand(4, 3, 6, 8, 3)
    pictures = {"crops.0": same, "crops.1": noise(4, 2, 5, 3, 3)}
    made = check(device, pictures, erase=RandomErasing(1.0), mix=Mixing(CLASSES))["crops.0"]
    assert not torch.equal(made[:, 0], made[:, 1])
    assert not torch.equal(made[:, 1], made[:, 2])


def test_inputs_in_any_memory_order(device):
    turned = noise(4, 9, 6, 3).transpose(1, 2)
    check(device, {"images": turned}, erase=RandomErasing(1.0), mix=Mixing(CLASSES))


def test_what_the_kernel_cannot_do_is_said(device):
    last = LastPass(Normalize(IMAGENET_MEAN, IMAGENET_STD, torch.device(device)))
    others = torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int32), 0, torch.arange(2)
    with pytest.raises(ValueError, match=r"images are torch\.float32 \[2, 4, 4, 3\], and the kernel wants bytes"):
        last({"images": torch.zeros(2, 4, 4, 3)}, *others, impl="triton")
    with pytest.raises(
        ValueError, match=r"images are \[0, 2, 4, 4, 3\], and the kernel takes 1 to 65535 of 1 to 4194304 pixels"
    ):
        last({"crops.0": noise(0, 2, 4, 4, 3)}, *others, impl="triton")
    assert last({"images": torch.zeros(2, 4, 4, 3)}, *others)[0]["images"].shape == (2, 3, 4, 4)
