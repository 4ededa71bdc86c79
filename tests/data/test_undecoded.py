"""JPEGs that the device decodes: the batches of pictures that the workers decode, whatever else is among them."""

from itertools import islice

import attrs
import pytest
import torch

from blocks.data import undecoded as module
from blocks.data.augment import Distortion
from blocks.data.decode import Encoded
from blocks.data.index.index import open_shards
from blocks.data.loading.train_loader import TrainLoader
from blocks.data.multi_crop import MultiCrop
from blocks.data.resize import _in_bytes, _in_floats
from blocks.data.transforms import TrainTransform
from blocks.data.undecoded import canvases, in_order, undecoded
from tests.data.draws import keys
from tests.data.pictures import encoded, picture, tar

WORKERS = TrainTransform(12, policy="rand-m9-mstd0.5-inc1", home="device", canvas=16)
CROPS = MultiCrop((TrainTransform(12, policy=Distortion()), TrainTransform(6)), home="device")
CPU = torch.device("cpu")


def on_device(transform):
    return attrs.evolve(transform, decode="device")


def stored():
    """Of all kinds and odd sizes: plain JPEGs, and what no worker may hand over."""
    yield from (encoded(picture(i, 16 + 5 * i, 50 - 3 * i), "jpeg", quality=70 + i) for i in range(9))
    yield encoded(picture(9, 16, 16), "jpeg")
    yield encoded(picture(10, 33, 17, "L"), "jpeg")
    yield encoded(picture(11, 20, 31, "CMYK"), "jpeg")
    yield encoded(picture(12, 31, 20), "jpeg", progressive=True)
    yield encoded(picture(13, 21, 22))
    yield encoded(picture(14, 2, 15), "jpeg")
    yield encoded(picture(15, 19, 1), "jpeg")
    yield encoded(picture(16, 23, 24, "P"), "gif")


KINDS = list(stored())
PICTURES = [Encoded(data, f"sample {i}") for i, data in enumerate(KINDS)]
HANDED_OVER = [i for i in range(len(KINDS)) if i not in (11, 12, 13, 16)]


def index_of(folder, kinds):
    files = [(f"{i:03d}.{ext}", data) for i, d in enumerate(kinds) for ext, data in (("img", d), ("cls", b"%d" % i))]
    ext = {True: "jpg", False: "png"}
    named = [(f.replace(".img", "." + ext[d[:2] == b"\xff\xd8"]), d) for f, d in files]
    folder.mkdir(exist_ok=True)
    return open_shards([str(tar(folder / "train-000000.tar", named))])


@pytest.fixture
def index(tmp_path):
    return index_of(tmp_path / "kinds", KINDS)


def train(index, transform, count=5, **options):
    options = {"batch_size": 7, "num_classes": len(index), "seed": 3, **options}
    with TrainLoader(index, transform=transform, **options) as loader:
        return list(islice(loader.batches(), count)), loader.skipped


def assert_equal(mine, others):
    for batch, other in zip(mine, others, strict=True):
        assert batch.keys() == other.keys()
        for name, tensor in batch.items():
            assert torch.equal(tensor, other[name]), name


def sent(pictures, transform=WORKERS):
    return on_device(transform)(pictures, keys(len(pictures)))


def test_plain_jpegs_leave_the_workers_as_they_are_stored():
    made = sent(PICTURES)
    assert made["jpegs"].numpy().tobytes() == b"".join(KINDS[i] for i in HANDED_OVER)
    assert made["lengths"].nonzero()[:, 0].tolist() == HANDED_OVER
    assert made["images"].shape == (4, 16, 16, 3)


@pytest.mark.parametrize("chosen", [range(len(KINDS)), HANDED_OVER, (11, 12, 13), ()])
def test_canvases_are_those_of_the_workers(chosen):
    pictures = [PICTURES[i] for i in chosen]
    made = canvases(sent(pictures), WORKERS.cut, CPU, lambda row: f"row {row}")
    assert torch.equal(made, WORKERS(pictures, keys(len(pictures))))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_few_at_once_are_the_same(monkeypatch, interpolation):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    transform = TrainTransform(8, interpolation=interpolation, home="device", canvas=11)
    made = canvases(sent(PICTURES[:9], transform), transform.cut, CPU, str)
    assert torch.equal(made, transform(PICTURES[:9], keys(9)))


def test_pictures_that_are_decoded_already_are_cut_by_the_workers():
    images = [p.rgb() for p in PICTURES]
    assert torch.equal(sent(images)["images"], WORKERS(images, keys(len(images))))


def test_large_ones_are_decoded_whole_not_at_reduced_scale():
    large, transform = [Encoded(encoded(picture(0, 90, 70), "jpeg"), "large")], attrs.evolve(WORKERS, canvas=12)
    made = canvases(sent(large, transform), transform.cut, CPU, str)
    assert torch.equal(made, transform([large[0].rgb()], keys(1)))
    assert not torch.equal(made, transform(large, keys(1)))


def test_rows_in_another_order_are_those_rows():
    order = torch.tensor([12, 3, 3, 16, 0, 11])
    moved = in_order(sent(PICTURES), order)
    wanted = sent([PICTURES[i] for i in order])
    assert all(torch.equal(moved[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"repeats": 3}, {"repeats": 2, "num_workers": 1}])
@pytest.mark.parametrize("transform", [WORKERS, CROPS], ids=["one view", "crops"])
def test_batches_are_those_of_pictures_that_the_workers_decode(index, transform, options):
    wanted, _ = train(index, transform, **options)
    assert_equal(train(index, on_device(transform), **options)[0], wanted)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_parts_of_a_batch_are_joined(index, monkeypatch, num_workers):
    monkeypatch.setattr("blocks.data.loading.slots.CHUNK_IMAGES", 2)  # a worker is a fork here, or sees one part
    wanted, _ = train(index, WORKERS, batch_size=17, num_workers=num_workers)
    assert_equal(train(index, on_device(WORKERS), batch_size=17, num_workers=num_workers)[0], wanted)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_parts_without_a_canvas_are_joined(tmp_path, monkeypatch, num_workers):
    monkeypatch.setattr("blocks.data.loading.slots.CHUNK_IMAGES", 2)
    plain = index_of(tmp_path / "plain", KINDS[:9])
    wanted, _ = train(plain, WORKERS, num_workers=num_workers)
    assert_equal(train(plain, on_device(WORKERS), num_workers=num_workers)[0], wanted)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_truncated_one_is_replaced_and_counted(tmp_path, num_workers):
    kinds = [data[: len(data) // 2] if i in (2, 13) else data for i, data in enumerate(KINDS)]
    index = index_of(tmp_path / "truncated", kinds)
    wanted, skipped = train(index, WORKERS, num_workers=num_workers)
    made, too = train(index, on_device(WORKERS), num_workers=num_workers)
    assert_equal(made, wanted)
    assert len(skipped) == 2
    assert too == skipped


def test_one_that_nobody_can_decode_is_an_error_with_its_name_and_the_way_out(tmp_path):
    """No marker is wrong, but a table of the Huffman codes is."""
    at = KINDS[4].index(b"\xff\xc4") + 5
    broken = KINDS[4][:at] + b"\xff" * 16 + KINDS[4][at + 16 :]
    index = index_of(tmp_path / "broken", [broken if i == 4 else data for i, data in enumerate(KINDS)])
    _, skipped = train(index, WORKERS)
    with pytest.raises(ValueError, match=r"sample 004: .*decode='workers' replaces it"):
        train(index, on_device(WORKERS))
    assert len(skipped) == 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_other_devices_resize_a_level_beside_the_cpu(interpolation):
    """Where no bicubic overshoot is cut off between the two directions, as bytes are."""
    planes = torch.randint(70, 186, (1, 3, 40, 33), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = [scale(planes, (16, 21), interpolation) for scale in (_in_bytes, _in_floats)]
    assert made[1].dtype == torch.uint8
    assert (made[0].int() - made[1].int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"home": "workers"}, "decode 'device' has no use with home 'workers'; it is for home='device'"),
        ({"resize": "pillow"}, "resize 'pillow' and interpolation 'bicubic'; use resize 'torch'"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'; use resize 'torch' and one of bilinear, bicubic"),
        ({"decode": "gpu"}, "decode 'gpu' is not known; use one of workers, device"),
    ],
)
def test_what_cannot_be_the_same_is_refused(options, message):
    options = {"home": "device", "decode": "device", **options}
    with pytest.raises(ValueError, match=message):
        TrainTransform(8, **options)
    views = {name: options.pop(name) for name in ("resize", "interpolation") if name in options}
    with pytest.raises(ValueError, match=message):
        MultiCrop((TrainTransform(8, **views),), **options)


def test_views_have_no_decode_of_their_own():
    with pytest.raises(ValueError, match="home='device'"):
        MultiCrop((TrainTransform(8, home="device", decode="device"),))


def test_the_workers_part_is_a_function_of_the_pictures_alone():
    first, again = (undecoded(PICTURES, WORKERS.cut) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
