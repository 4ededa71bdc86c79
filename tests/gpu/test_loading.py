"""Batches on a GPU: the CPU's, wherever they are augmented and kept."""

from itertools import islice

import pytest
import torch

from blocks.data import Mixing, RandomErasing, TrainLoader, TrainTransform, open_shards
from blocks.data.multi_crop import MultiCrop
from blocks.data.presets import dino_views
from blocks.data.writing.writer import write_shards
from tests.data.pictures import encoded, picture, shards


def batches(index, device, transform, **knobs):
    loader = TrainLoader(index, batch_size=6, transform=transform, num_classes=3, seed=3, device=device, **knobs)
    with loader:
        return [{name: t.cpu() for name, t in batch.items()} for batch in islice(loader.batches(), 4)]


TRANSFORMS = {
    "workers": lambda: TrainTransform(16, policy="rand-m9-mstd0.5-inc1"),
    "device": lambda: TrainTransform(16, policy="rand-m9-mstd0.5-inc1", home="device"),
    "crops": lambda: MultiCrop(dino_views(16, 8, 2), home="device"),
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_batches_are_those_of_a_cpu(tmp_path, device, name, num_workers):
    index = open_shards(shards(tmp_path, 23, 8))
    knobs = {"erase": RandomErasing(0.5), "num_workers": num_workers}
    if name != "crops":
        knobs["mix"] = Mixing(3)
    found, wanted = (batches(index, where, TRANSFORMS[name](), **knobs) for where in (device, "cpu"))
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def jpegs(folder, count=12):
    made = ({"__key__": f"{i:03d}", "jpg": encoded(picture(i, 48, 64), "jpeg"), "cls": b"1"} for i in range(count))
    written = write_shards(made, folder, "train", samples_per_shard=6)
    return open_shards([str(folder / shard["name"]) for shard in written])


@pytest.mark.parametrize("how", ["decoded there", "kept there"])
def test_pictures_decoded_or_kept_on_the_gpu_are_those_of_a_cpu(tmp_path, device, how):
    """Another decoder may differ by some levels of 255, and noise makes the most of it."""
    index, transform = jpegs(tmp_path), TrainTransform(16, home="device")
    own = {"transform": TrainTransform(16, home="device", decode="device")} if how == "decoded there" else {}
    knobs = {"decoded": "device"} if how == "kept there" else {}
    found = batches(index, device, **{"transform": transform} | own | knobs)
    for mine, other in zip(found, batches(index, "cpu", transform), strict=True):
        assert torch.equal(mine["labels"], other["labels"])
        assert (mine["images"] - other["images"]).abs().mean() < 0.05
