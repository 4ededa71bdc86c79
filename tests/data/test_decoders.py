"""Every decoder: the same pixels of the same boxes, and the same pictures refused."""

import io
import pickle
import subprocess
import sys
import threading
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from PIL import Image

from blocks.data.decode import (
    DECODERS,
    Decoded,
    Encoded,
    UnreadableImage,
    best_decoder,
    decoded,
    decoders,
    on_gpu,
    pixels,
)
from blocks.data.decode.jpeg import is_plain, size_in_header
from tests.data.pictures import encoded, picture

pytestmark = pytest.mark.filterwarnings("ignore:.*TorchVision are deprecated")
SIZES = [(1, 1), (1, 40), (40, 1), (16, 16), (17, 31), (61, 47)]  # height, width


def smooth(seed, height, width, mode="RGB"):
    """Noise of some pixels' grain: what a JPEG is for."""
    small = picture(seed, height // 4 + 1, width // 4 + 1)
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def boxes(height, width, count=12):
    """The whole picture, its corners, and some at random."""
    yield from ((0, 0, height, width), (0, 0, 1, 1), (height - 1, width - 1, 1, 1))
    rng = np.random.default_rng(0)
    for _ in range(count):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        yield top, left, int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1))


def same_pixels(data, decoder, box):
    top, left, height, width = box
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    part = Encoded(data, "a picture", decoder).pixels(box)
    assert part.dtype == np.uint8
    return np.array_equal(part, whole[top : top + height, left : left + width])


@pytest.fixture(params=DECODERS)
def decoder(request):
    if request.param == "nvimgcodec":
        pytest.importorskip("nvidia.nvimgcodec")
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["444", "422", "420"])
def test_a_box_holds_pillow_s_pixels(decoder, size, subsampling):
    for quality in (5, 50, 95, 100):
        data = encoded(smooth(quality, *size), "jpeg", quality=quality, subsampling=subsampling)
        assert is_plain(data)
        assert all(same_pixels(data, decoder, box) for box in boxes(*size))


@pytest.mark.parametrize(
    ("mode", "options", "plain"),
    [
        ("L", {}, True),
        ("RGB", {"restart_marker_blocks": 3}, True),
        ("RGB", {"optimize": True, "comment": b"\xff\xd9 is no end here"}, True),
        ("RGB", {"keep_rgb": True}, True),
        ("RGB", {"progressive": True}, False),
        ("CMYK", {}, False),
    ],
)
def test_other_jpegs_have_pillow_s_pixels_too(decoder, mode, options, plain):
    data = encoded(smooth(0, 45, 70, mode), "jpeg", **options)
    assert is_plain(data) == plain
    assert all(same_pixels(data, decoder, box) for box in boxes(45, 70))


@pytest.mark.parametrize(("format", "mode"), [("png", "P"), ("png", "RGBA"), ("webp", "RGB"), ("tiff", "CMYK")])
def test_what_is_no_jpeg_is_pillow_s(decoder, format, mode):
    data = encoded(smooth(0, 20, 30, mode), format)
    assert all(same_pixels(data, decoder, box) for box in boxes(20, 30))


def test_orientation_is_left_as_stored(decoder):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(smooth(0, 20, 30), "jpeg", exif=exif)
    assert Encoded(data, "turned", decoder).size == (30, 20)
    assert all(same_pixels(data, decoder, box) for box in boxes(20, 30))


@pytest.mark.parametrize("format", ["jpeg", "png", "gif"])
def test_the_size_is_read_before_any_pixel(format):
    data = encoded(smooth(0, 20, 30), format)
    whole = Encoded(data, "whole")
    assert whole.size == (30, 20)
    assert Encoded(data[: len(data) * 3 // 4], "cut off").size == whole.size


def test_a_header_that_is_cut_off_has_no_size():
    data = encoded(smooth(0, 20, 30), "jpeg")
    start = data.index(b"\xff\xc0")
    assert size_in_header(data) == (30, 20)
    assert all(size_in_header(data[:end]) is None for end in range(start + 10))


def jpeg():
    return encoded(smooth(0, 60, 80), "jpeg", quality=95)


DAMAGES = {
    "empty": lambda data: b"",
    "text": lambda data: b"no picture at all",
    "start": lambda data: data[:2],
    "header": lambda data: data[:100],
    "half": lambda data: data[: len(data) // 2],
    "end": lambda data: data[:-2],
    "tables": lambda data: data.replace(b"\xff\xdb", b"\xff\xdb\xff\xff"),
    "marker": lambda data: data[:-40] + b"\xff\xba" + data[-38:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("box", [(0, 0, 60, 80), (0, 0, 4, 4)], ids=["whole", "corner"])
def test_the_same_damage_is_refused_by_all(decoder, damage, box):
    """The corner is intact, but a picture is not taken or refused for where a crop happens to lie."""
    broken = Encoded(damage(jpeg()), lambda: "shard 3, cat", decoder)
    with pytest.raises(UnreadableImage, match="shard 3, cat: ") as caught:
        broken.pixels(box)
    assert caught.value.picture is broken
    assert caught.value.reason == outcome(broken.data, "pillow", box)


def test_what_pillow_takes_is_taken_by_all(decoder):
    """Some damage it fills with grey."""
    data = jpeg()
    data = data[: len(data) // 2] + data[-2:]
    assert outcome(data, decoder, (3, 5, 50, 40)) == outcome(data, "pillow", (3, 5, 50, 40))


def outcome(data, decoder, box):
    """Pixels, or the reason why there are none."""
    try:
        return Encoded(data, "damaged", decoder).pixels(box).tolist()
    except UnreadableImage as error:
        return error.reason


def test_random_damage_is_judged_alike(decoder):
    """Bytes changed, taken out or cut off, half of them with the end put back."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(jpeg())
        first, last = sorted(rng.integers(2, len(data), 2))
        if rng.random() < 0.5:
            data[first] = rng.integers(256)
        else:
            del data[first : last if rng.random() < 0.5 else None]
        data = bytes(data) + (b"\xff\xd9" if rng.random() < 0.5 else b"")
        wanted = outcome(data, "pillow", (3, 5, 50, 40))
        assert outcome(data, decoder, (3, 5, 50, 40)) == wanted
        refused += isinstance(wanted, str)
    assert 20 < refused < 180


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("ask", [lambda p: p.size, lambda p: p.pixels((0, 0, 1, 1)), lambda p: p.reduced(2)])
def test_a_bomb_is_refused_by_its_header(decoder, ask, monkeypatch):
    data = encoded(smooth(0, 20, 30), "jpeg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(UnreadableImage, match="30 x 20 pixels are above Pillow's limit of 599"):
        ask(Encoded(data, "bomb", decoder))


def test_threads_do_not_disturb_each_other(decoder):
    data, box = jpeg(), (7, 9, 30, 40)
    wanted, wrong = Encoded(data, "once", decoder).pixels(box), []

    def work():
        wrong.extend(i for i in range(50) if not np.array_equal(Encoded(data, "x", decoder).pixels(box), wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def box_of(picture):
    return picture.pixels((7, 9, 30, 40)).tolist()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_has_its_own_decoder(decoder, start):
    """Also one that is forked off after its parent decoded."""
    picture = Encoded(jpeg(), "here and there", decoder)
    with get_context(start).Pool(1) as pool:
        assert pool.apply(box_of, (picture,)) == box_of(picture)


def test_nothing_is_printed_by_the_one_nor_by_the_other(tmp_path):
    """nvImageCodec tells of libraries for GPUs at import, and of damaged pictures."""
    pytest.importorskip("nvidia.nvimgcodec")
    whole, half = tmp_path / "whole.jpg", tmp_path / "half.jpg"
    whole.write_bytes(jpeg())
    half.write_bytes(jpeg()[: len(jpeg()) // 2])
    script = (
        "import os, pathlib\n"
        "from blocks.data.decode.decoders import by_nvimgcodec\n"
        f"print(by_nvimgcodec(pathlib.Path({str(whole)!r}).read_bytes(), (0, 0, 4, 5)).shape)\n"
        f"try: by_nvimgcodec(pathlib.Path({str(half)!r}).read_bytes(), (50, 0, 9, 5))\n"
        "except ValueError as error: print(error)\n"
        "print(os.environ.get('PYNVIMGCODEC_VERBOSITY'))\n"
        "print('still heard', file=__import__('sys').stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(4, 5, 3)", "nvImageCodec cannot decode it", "None"]
    assert done.stderr == "still heard\n"


def test_a_program_without_standard_error_decodes(tmp_path):
    """As one is that a shell started with `2>&-`: every picture was damaged."""
    whole = tmp_path / "whole.jpg"
    whole.write_bytes(jpeg())
    script = (
        "import pathlib\n"
        "from blocks.data.decode import Encoded\n"
        f"print(Encoded(pathlib.Path({str(whole)!r}).read_bytes(), 'whole').pixels((0, 0, 4, 5)).shape)\n"
    )
    closed = ["sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, script]
    assert subprocess.run(closed, stdout=subprocess.PIPE, text=True).stdout == "(4, 5, 3)\n"


def test_pictures_of_all_kinds_have_the_same_face(decoder):
    image = Image.open(io.BytesIO(jpeg()))
    stored = Encoded(jpeg(), "stored", decoder)
    at_hand = decoded(stored)
    assert isinstance(at_hand, Decoded)
    assert decoded(image) is image
    assert image.size == stored.size == at_hand.size
    assert np.array_equal(stored.rgb(), at_hand.rgb())
    box = (3, 5, 20, 30)
    assert np.array_equal(pixels(image, box), pixels(stored, box))
    assert np.array_equal(pixels(image, box), pixels(at_hand, box))


def test_an_encoded_picture_is_copied_to_other_processes_with_its_decoder(decoder):
    copy = pickle.loads(pickle.dumps(Encoded(jpeg(), "stored", decoder)))
    assert (copy.data, copy.name, copy.decoder) == (jpeg(), "stored", decoder)


def test_a_decoder_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="decoder 'turbo' is not known; use one of pillow, torchvision, nvimgcodec"):
        Encoded(b"", "x", "turbo")


def test_a_decoder_that_is_not_installed_is_no_fault_of_the_picture(monkeypatch):
    def missing(data, box):
        raise ModuleNotFoundError("No module named 'nvidia'")

    monkeypatch.setitem(DECODERS, "nvimgcodec", missing)
    with pytest.raises(ModuleNotFoundError, match="nvidia"):
        Encoded(jpeg(), "x", "nvimgcodec").pixels()


def test_the_fastest_that_is_installed_is_taken(monkeypatch):
    def missing():
        raise ImportError

    best = best_decoder.__wrapped__
    monkeypatch.setattr(decoders, "nvimgcodec_library", lambda: None)
    assert best() == "nvimgcodec"
    monkeypatch.setattr(decoders, "nvimgcodec_library", missing)
    assert best() == "torchvision"
    monkeypatch.setattr(decoders, "torchvision_decoder", missing)
    assert best() == "pillow"


def test_torchvision_decodes_a_list_as_a_gpu_is_asked_to(monkeypatch):
    monkeypatch.setattr(on_gpu, "_idle_stream", lambda device: None)
    jpegs = [encoded(picture(i, 30 + i, 41 - i), "jpeg") for i in range(3)]
    made = on_gpu.by_torchvision(jpegs, torch.device("cpu"))
    assert all(
        np.array_equal(x.numpy(), Encoded(jpeg, "a picture").pixels()) for x, jpeg in zip(made, jpegs, strict=True)
    )
    with pytest.raises(RuntimeError):
        on_gpu.by_torchvision([*jpegs, b"no JPEG"], torch.device("cpu"))
