"""What a loader does to a batch on the device: the transform's end, normalisation, erasing, mixing."""

from itertools import islice

import attrs
import numpy as np
import pytest
import torch

from blocks.data.erasing import RandomErasing
from blocks.data.index.index import open_shards
from blocks.data.loading.last_pass import ERASE
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.mixing import Mixing
from blocks.data.order import augment_keys, epoch_order, mix_key
from blocks.data.stream import Stream
from blocks.data.transforms import EvalTransform, TrainTransform
from blocks.random import fold_in
from tests.data.pictures import shards

COUNT, SEED = 23, 3  # the label is the sample's number: it tells samples apart
ALL = {"erase": RandomErasing(0.7), "mix": Mixing(COUNT, mode="elem"), "repeats": 2}


@attrs.frozen
class Darkened:
    """Half of it in the workers, half on the device: pictures, then minus a number drawn from each one's key."""

    home: str = "device"

    def __call__(self, images, keys):
        return EvalTransform(8)(images)

    def finish(self, images, keys):
        return images // 2 + (keys[:, 0] % 7).to(torch.uint8).to(images.device)[:, None, None, None]


def loader(index, **options):
    options = {"batch_size": 12, "transform": TrainTransform(8), "num_classes": COUNT, "seed": SEED, **options}
    return TrainLoader(index, **options)


def steps(loader, count, start_step=0):
    with loader:
        return list(islice(loader.batches(start_step), count))


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, COUNT, 8, num_classes=COUNT))


def test_images_are_erased_by_their_keys_and_mixed_by_the_steps(index):
    plain = steps(loader(index), 2)
    erase, mix = RandomErasing(0.7), Mixing(COUNT)
    both = steps(loader(index, erase=erase, mix=mix), 2)
    for step, (before, after) in enumerate(zip(plain, both, strict=True)):
        samples, epochs = map(torch.from_numpy, Stream(index, SEED)[step * 12 + np.arange(12)])
        images = erase(before["images"], fold_in(augment_keys(samples, SEED, epochs), ERASE))
        images, targets = mix(images, before["labels"], mix_key(SEED, step), before["index"])
        assert torch.equal(after["images"], images)
        assert torch.equal(after["labels"], targets)
        assert not torch.equal(images, before["images"])


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 0), (2, 1)])
def test_processes_and_workers_change_no_mixed_batch(index, mode, world_size, num_workers):
    options = {**ALL, "mix": Mixing(COUNT, mode=mode, label_smoothing=0.1), "transform": Darkened()}
    wanted = steps(loader(index, **options), 3)
    where = {"world_size": world_size, "num_workers": num_workers}
    ranks = [steps(loader(index, rank=rank, **where, **options), 3) for rank in range(world_size)]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


def test_a_mixed_stream_from_a_step_on_continues_the_uninterrupted_one(index):
    wanted = steps(loader(index, **ALL), 5)[2:]
    resumed = steps(loader(index, **ALL), 3, start_step=2)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(wanted, resumed, strict=True) for name in a)


def test_a_transform_at_home_on_the_device_is_finished_there(index):
    plain = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
    (whole,) = steps(loader(index, transform=EvalTransform(8), **plain), 1)
    (finished,) = steps(loader(index, transform=Darkened(), **plain), 1)
    keys = augment_keys(epoch_order(COUNT, SEED, 0)[:12], SEED, 0)
    wanted = Darkened().finish(whole["images"].round().byte().permute(0, 2, 3, 1), keys)
    torch.testing.assert_close(finished["images"], wanted.permute(0, 3, 1, 2).float(), rtol=0, atol=1e-4)
    (left,) = steps(loader(index, transform=Darkened(home="workers"), **plain), 1)
    assert torch.equal(left["images"], whole["images"])


def test_the_host_never_waits_for_the_device(index):
    """The meta device has no values that a host could read."""
    for batch in steps(loader(index, transform=Darkened(), device="meta", **ALL), 2):
        assert batch["images"].shape == (12, 3, 8, 8)
        assert batch["labels"].shape == (12, COUNT)


def test_the_global_random_state_is_left_alone(index):
    before = torch.random.get_rng_state()
    steps(loader(index, **ALL), 2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_share_of_an_odd_number_cannot_be_mixed(index):
    words = r"3 images a process \(batch_size 6 over 2\) are not whole pairs to mix; batch_size 8 gives 4"
    with pytest.raises(ValueError, match=words):
        loader(index, batch_size=6, world_size=2, mix=Mixing(COUNT))
    assert steps(loader(index, batch_size=5, mix=Mixing(COUNT)), 1)[0]["labels"].shape == (5, COUNT)


def test_another_number_of_classes_is_refused(index):
    with pytest.raises(ValueError, match="mix has num_classes 5, the loader 23"):
        loader(index, mix=Mixing(5))
