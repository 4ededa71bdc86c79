import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.data.index.index import open_shards
from blocks.data.loading.eval_loader import EvalLoader
from blocks.data.transforms import EvalTransform
from tests.data.pictures import shards
from tests.data.test_stream import index as index_of

COUNT = 11


def loader(index, **options):
    return EvalLoader(index, **{"batch_size": 3, "transform": EvalTransform(8), "num_classes": 3, **options})


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path, COUNT, 4))


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 1), (4, 0), (14, 0)])
def test_every_image_comes_exactly_once_over_all_processes(index, world_size, num_workers):
    """Also with more processes than shards, and with more processes than images; in every pass."""
    seen = []
    for rank in range(world_size):
        with loader(index, rank=rank, world_size=world_size, num_workers=num_workers) as val:
            first, second = list(val), list(val)
            assert len(first) == len(second) == len(val)
            seen += second
    assert torch.cat([batch["index"] for batch in seen]).tolist() == list(range(COUNT))
    assert torch.cat([batch["labels"] for batch in seen]).tolist() == [i % 3 for i in range(COUNT)]
    wanted = torch.cat([batch["images"] for batch in loader(index)])
    assert torch.equal(torch.cat([batch["images"] for batch in seen]), wanted)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_passes_side_by_side_and_passes_left_early_take_nothing_from_each_other(index, num_workers):
    with loader(index, num_workers=num_workers) as val:
        pairs = list(zip(val, val, strict=True))
        assert [[a["index"][0], b["index"][0]] for a, b in pairs] == [[i, i] for i in (0, 3, 6, 9)]
        for _ in val:
            break
        assert [batch["index"][0] for batch in val] == [0, 3, 6, 9]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 12))
def test_shares_are_each_sample_once_and_differ_by_one_at_most(samples, world_size, batch_size):
    whole, options = index_of([samples]), {"batch_size": batch_size, "num_classes": samples, "world_size": world_size}
    shares = [loader(whole, rank=rank, **options)._places() for rank in range(world_size)]
    seen = [sample for share in shares for place in share for sample in range(*place)]
    assert seen == list(range(samples))
    sizes = [sum(last - first for first, last in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(0 < last - first <= batch_size for share in shares for first, last in share)


def test_the_last_batch_is_smaller(index):
    assert [len(batch["labels"]) for batch in loader(index)] == [3, 3, 3, 2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_corrupt_images_are_left_out_and_named(tmp_path, num_workers):
    """Also where a whole batch is corrupt."""
    index = open_shards(shards(tmp_path / "damaged", COUNT, 4, damaged=(1, 3, 4, 5)))
    with loader(index, num_workers=num_workers) as val:
        batches = list(val)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == [0, 2, 6, 7, 8, 9, 10]
        assert [name.split()[-1] for name in val.skipped] == ["0001", "0003", "0004", "0005"]


def test_what_does_not_fit_is_refused_at_construction(index):
    for options, words in (
        ({"rank": 1}, "rank 1 is not one of 1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"num_classes": 2}, "label 2 is not one of 2 classes"),
    ):
        with pytest.raises(ValueError, match=words):
            loader(index, **options)
