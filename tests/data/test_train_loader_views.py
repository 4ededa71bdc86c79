"""Batches of crops: the loader's contracts hold view by view."""

from itertools import islice

import attrs
import numpy as np
import pytest
import torch

from blocks.data.augment import Distortion
from blocks.data.erasing import RandomErasing
from blocks.data.index.index import open_shards
from blocks.data.loading.last_pass import ERASE
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.order import augment_keys, epoch_order, mix_key
from blocks.data.stream import Stream
from blocks.data.transforms import TrainTransform
from blocks.data.views import each_view, view_keys
from blocks.random import fold_in
from tests.data.pictures import decodings, shards

COUNT, SEED, BATCH = 23, 3, 12  # an epoch is one step; the label is the sample's number
LARGE, SMALL = TrainTransform(8, policy=Distortion()), TrainTransform((4, 6))
WORKERS = MultiCrop((LARGE, SMALL, LARGE, SMALL, SMALL))
DEVICE = attrs.evolve(WORKERS, home="device")
ALL = {"erase": RandomErasing(0.7), "mix": Mixing(COUNT, mode="elem"), "repeats": 2}
PLAIN = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # pixel values as they are


def loader(index, **options):
    options = {"batch_size": BATCH, "transform": WORKERS, "num_classes": COUNT, "seed": SEED, **options}
    return TrainLoader(index, **options)


def steps(loader, count, start_step=0):
    with loader:
        return list(islice(loader.batches(start_step), count))


def views(batch):
    """Each view [b, 3, H, W] in the order of the batch."""
    return [view for name in ("crops.0", "crops.1") for view in batch[name].unbind(1)]


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, COUNT, 8, num_classes=COUNT))


@pytest.mark.parametrize("transform", [WORKERS, DEVICE], ids=["workers", "device"])
def test_a_batch_holds_the_normalised_crops_of_its_samples(index, transform):
    train = loader(index, transform=transform, **PLAIN)
    (batch,) = steps(train, 1)
    assert {name: tuple(x.shape) for name, x in batch.items()} == {
        "crops.0": (BATCH, 2, 3, 8, 8),
        "crops.1": (BATCH, 3, 3, 4, 6),
        "labels": (BATCH,),
        "index": (BATCH,),
    }
    samples = epoch_order(COUNT, SEED, 0)[:BATCH]
    own = augment_keys(samples, SEED, 0)
    crops = transform([train._batches.reader.image(int(sample)) for sample in samples], own)
    crops = crops if transform is WORKERS else transform.finish(crops, own)
    for name, wanted in crops.items():
        assert batch[name].dtype == torch.float32
        assert batch[name].is_contiguous()
        torch.testing.assert_close(batch[name], wanted.permute(0, 1, 4, 2, 3).float(), rtol=0, atol=1e-4)
    assert torch.equal(batch["labels"], samples)


def test_every_view_is_erased_and_mixed_by_keys_of_its_own(index):
    before = steps(loader(index), 2)
    erase, mix = RandomErasing(0.7), Mixing(COUNT)
    after = steps(loader(index, erase=erase, mix=mix), 2)
    for step, (plain, both) in enumerate(zip(before, after, strict=True)):
        samples, epochs = map(torch.from_numpy, Stream(index, SEED)[step * BATCH + np.arange(BATCH)])
        own = fold_in(augment_keys(samples, SEED, epochs), ERASE)
        for place, (view, found) in enumerate(zip(views(plain), views(both), strict=True)):
            wanted = erase(view, view_keys(own, place))
            wanted, _ = mix(wanted, plain["labels"], view_keys(mix_key(SEED, step), place), plain["index"])
            assert torch.equal(found, wanted)
            assert not torch.equal(found, view)
        assert torch.equal(both["labels"], plain["labels"])
        assert both["labels"].dtype == torch.int64


def test_views_of_an_image_are_mixed_with_the_same_partner_by_different_shares(index):
    """Pictures of one grey, by CutMix and MixUp alike, show the partner's grey and its share."""
    grey = torch.arange(BATCH).float().view(-1, 1, 1, 1, 1).expand(-1, 4, 3, 8, 8)
    mix, places = Mixing(COUNT, cutmix_alpha=0.0), torch.arange(BATCH)
    shares = []
    for view, own in each_view({"crops.0": grey}, mix_key(SEED, 0)):
        mixed = mix.pictures(view, own, places)
        share = (mixed[:, 0, 0, 0] - places) / ((places ^ 1) - places)
        torch.testing.assert_close(share, share[:1].expand(BATCH))
        shares.append(share[0].item())
    assert len(set(shares)) == 4


@pytest.mark.parametrize(("transform", "world_size", "num_workers"), [(WORKERS, 3, 0), (WORKERS, 2, 1), (DEVICE, 2, 0)])
def test_processes_and_workers_change_no_batch_of_crops(index, transform, world_size, num_workers):
    options = {**ALL, "transform": transform}
    wanted = steps(loader(index, **options), 2)
    where = {"world_size": world_size, "num_workers": num_workers}
    ranks = [steps(loader(index, rank=rank, **where, **options), 2) for rank in range(world_size)]
    for step, batch in enumerate(wanted):
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in ranks]), tensor), name


def test_a_stream_of_crops_from_a_step_on_continues_the_uninterrupted_one(index):
    wanted = steps(loader(index, **ALL), 3)[1:]
    resumed = steps(loader(index, **ALL), 2, start_step=1)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(wanted, resumed, strict=True) for name in a)


def test_a_picture_is_decoded_once_for_all_its_views_and_copies(index, monkeypatch):
    decoded = decodings(monkeypatch)
    steps(loader(index, repeats=3), 1)
    assert len(decoded) == len(set(decoded)) == 4


@pytest.mark.parametrize("transform", [WORKERS, DEVICE], ids=["workers", "device"])
def test_the_host_never_waits_for_the_device(index, transform):
    """The meta device has no values that a host could read."""
    for batch in steps(loader(index, transform=transform, device="meta", **ALL), 1):
        assert [tuple(view.shape) for view in views(batch)] == [(BATCH, 3, 8, 8)] * 2 + [(BATCH, 3, 4, 6)] * 3
        assert batch["labels"].shape == (BATCH,)


def test_the_global_random_state_is_left_alone(index):
    before = torch.random.get_rng_state()
    steps(loader(index, **ALL), 2)
    assert torch.equal(torch.random.get_rng_state(), before)
