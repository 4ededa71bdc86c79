"""The sheet shows pictures as they are, and views as training sees them."""

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from blocks.data.augment import RandAugment
from blocks.data.erasing import RandomErasing
from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.inspect.contact_sheet import GAP, MARGIN, PAPER, SMALL, Row, contact_sheet, fitted, lay_out
from blocks.data.inspect.views import pixels, readable_samples, seen, sheet_rows, spread_order
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.loading.workers import IMAGENET_MEAN, IMAGENET_STD, Normalize
from blocks.data.mixing import Mixing
from blocks.data.multi_crop import MultiCrop
from blocks.data.order import augment_keys, epoch_order
from blocks.data.presets import swav_views
from blocks.data.transforms import TrainTransform
from tests.data.pictures import gzipped, picture, shards, with_cache

PLAIN = TrainTransform((12, 10), policy=RandAugment())
SWAV = MultiCrop(swav_views(16, 8, 3))


@pytest.fixture
def index(tmp_path):
    return open_shards(shards(tmp_path / "shards", 7, 4))


def stored(index):
    reader = Reader(index)
    return [reader.image(sample) for sample in range(len(index))]


def arrays(pictures):
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def row(*sizes, caption="a", picture_size=(30, 20)):
    views = tuple(picture(i, height, width) for i, (width, height) in enumerate(sizes))
    return Row(caption, picture(99, picture_size[1], picture_size[0]), views)


def cut(sheet, left, top, size):
    return np.asarray(sheet.crop((left, top, left + size[0], top + size[1])))


def test_views_lie_in_columns_pixel_by_pixel():
    rows = [row((200, 150), (96, 96)), row((200, 150), (96, 96))]
    sheet, layout = contact_sheet(rows, ["one", "two"]), lay_out(rows, ["one", "two"])
    assert layout.factor == 1
    assert layout.lefts == (GAP, GAP + 200 + GAP, GAP + 2 * (200 + GAP))
    assert layout.size == sheet.size == (layout.lefts[2] + 96 + GAP, layout.tops[1] + MARGIN + 150 + GAP)
    for one, top in zip(rows, layout.tops, strict=True):
        for view, left in zip(one.views, layout.lefts[1:], strict=True):
            assert np.array_equal(cut(sheet, left, top + MARGIN, view.size), np.asarray(view))


def test_small_views_are_enlarged_by_one_whole_factor():
    rows = [row((32, 32), (12, 12), picture_size=(32, 32))]
    sheet, layout = contact_sheet(rows, ["0", "1"]), lay_out(rows, ["0", "1"])
    assert layout.factor == SMALL // 32 == 4
    large = cut(sheet, layout.lefts[1], layout.tops[0] + MARGIN, (128, 128))
    assert np.array_equal(large[::4, ::4], np.asarray(rows[0].views[0]))
    assert np.array_equal(large, large[::4, ::4].repeat(4, 0).repeat(4, 1))
    small = cut(sheet, layout.lefts[2], layout.tops[0] + MARGIN, (48, 48))
    assert np.array_equal(small[::4, ::4], np.asarray(rows[0].views[1]))


def test_the_first_column_is_the_stored_picture():
    """A small one enlarged as often as it fits, a large one whole; of the rest of the cell nothing is drawn on."""
    rows = [row((64, 64), picture_size=(31, 20))]
    sheet, layout = contact_sheet(rows, ["0"]), lay_out(rows, ["0"])
    shown = cut(sheet, GAP, layout.tops[0] + MARGIN, layout.cell)
    assert np.array_equal(shown[:80:4, :124:4], np.asarray(rows[0].stored))
    assert (shown[80:] == PAPER).all()
    assert (shown[:, 124:] == PAPER).all()


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((500, 375), (128, 96)),
        ((375, 500), (75, 100)),
        ((128, 100), (128, 100)),
        ((5, 5), (100, 100)),
        ((2000, 3), (128, 1)),
    ],
)
def test_a_stored_picture_keeps_its_shape(size, shown):
    assert fitted(Image.new("RGB", size), (128, 100)).size == shown


def test_a_heading_has_room_and_a_caption_ends_at_the_edge():
    rows = [row((128, 128), (8, 8), caption="long " * 100)]
    layout = lay_out(rows, ["epoch 0, crop 0", "epoch 0, crop 1"], "words " * 100)
    assert layout.size[0] - layout.lefts[2] > 60
    sheet = np.asarray(contact_sheet(rows, ["epoch 0, crop 0", "epoch 0, crop 1"], "words " * 100))
    assert (sheet[:, -GAP:] == PAPER).all()
    assert layout.tops[0] > 3 * MARGIN  # the title takes several lines


def test_rows_without_a_heading_for_each_view_are_refused():
    with pytest.raises(ValueError, match=r"1 rows of \[2\] views do not fit 1 headings"):
        contact_sheet([row((8, 8), (8, 8))], ["0"])


def test_undoing_the_normalisation_is_exact():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    images = Normalize(IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))(levels)
    assert torch.equal(pixels(images, IMAGENET_MEAN, IMAGENET_STD), levels)


def test_the_views_are_what_the_transform_makes_of_each_samples_key(index):
    columns = seen(index, PLAIN, count=3, seed=5)
    assert [heading for heading, _ in columns] == ["epoch 0", "epoch 1", "epoch 2"]
    for epoch, (_, pictures) in enumerate(columns):
        keys = augment_keys(torch.arange(len(index)), 5, epoch)
        assert torch.equal(arrays(pictures), PLAIN(stored(index), keys))


def test_crops_stand_side_by_side_and_small_ones_are_small(index):
    columns = seen(index, SWAV, count=8, seed=1)
    crops = SWAV(stored(index), augment_keys(torch.arange(len(index)), 1, 0))
    wanted = [*crops["crops.0"].unbind(1), *crops["crops.1"].unbind(1)]
    assert [heading for heading, _ in columns] == [f"crop {i}" for i in range(5)]
    assert all(torch.equal(arrays(pictures), view) for (_, pictures), view in zip(columns, wanted, strict=True))
    again = seen(index, SWAV, count=10, seed=1)
    assert [heading for heading, _ in again] == [f"epoch {e}, crop {i}" for e in range(2) for i in range(5)]
    assert all(torch.equal(arrays(a), arrays(b)) for (_, a), (_, b) in zip(columns, again, strict=False))


@pytest.mark.parametrize("home", ["workers", "device"])
def test_erased_and_mixed_views_are_those_of_a_train_loader(index, home):
    transform, erase = attrs.evolve(PLAIN, home=home), RandomErasing(1.0, "const")
    columns = seen(index, transform, 2, seed=3, erase=erase, mix=Mixing(1))
    loader = TrainLoader(
        index, batch_size=7, transform=transform, num_classes=3, seed=3, erase=erase, mix=Mixing(3)
    )  # fmt: skip
    for epoch, ((_, pictures), batch) in enumerate(zip(columns, loader.batches(), strict=False)):
        images = pixels(batch["images"], loader.mean, loader.std)
        assert torch.equal(arrays(pictures)[epoch_order(7, 3, epoch)], images)
    loader.close()


def test_a_row_names_its_sample(index):
    columns = seen(index, PLAIN, count=1)
    rows = sheet_rows(index, columns)
    assert [row.caption for row in rows[:2]] == ["0: 0000, train-000000.tar, 5 x 5", "1: 0001, train-000000.tar, 6 x 6"]
    for row, image, view in zip(rows, stored(index), columns[0][1], strict=True):
        assert row.stored.tobytes() == image.tobytes()
        assert row.views == (view,)


def test_samples_are_taken_from_one_class_after_another():
    labels = np.array([5] * 50 + [1, 1, 0, 7])
    order = spread_order(labels, seed=0)
    assert sorted(order) == list(range(len(labels)))
    assert set(labels[order[:4]]) == {0, 1, 5, 7}
    assert set(labels[order[4:6]]) == {1, 5}
    assert not np.array_equal(order, spread_order(labels, seed=1))


def test_damaged_samples_are_not_drawn(tmp_path):
    index = open_shards(shards(tmp_path, 7, 4, damaged=(0, 3, 6)))  # all of class 0
    assert sorted(readable_samples(index, 10, seed=0)) == [1, 2, 4, 5]
    assert len(readable_samples(index, 3, seed=0)) == 3
    assert index.label[readable_samples(index, 4, seed=0)].tolist() == [1, 1, 2, 2]


def test_a_cache_of_a_few_packed_shards_suffices_for_a_sheet(tmp_path):
    paths = [gzipped(path) for path in shards(tmp_path, 24, 3)]
    plain = seen(open_shards([path.removesuffix(".gz") for path in paths]).take(range(0, 24, 3)), TrainTransform(8), 2)
    whole = open_shards(paths)
    index = with_cache(whole, tmp_path / "cache", 0.55).take(range(0, 24, 3))
    for (heading, pictures), (wanted, others) in zip(seen(index, TrainTransform(8), 2), plain, strict=True):
        assert heading == wanted
        assert [p.tobytes() for p in pictures] == [p.tobytes() for p in others]
