"""Many JPEGs decoded at once: on a CPU as one by one; of what a GPU does, all that stands around its library."""

from types import SimpleNamespace

import pytest
import torch

from blocks.data.decode import Encoded, UnreadableImage, batch, decode_batch, on_gpu
from tests.data.pictures import encoded, picture

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
JPEGS = [encoded(picture(i, 30 + i, 41 - i), "jpeg") for i in range(5)]
PICTURES = [Encoded(jpeg, f"sample {i}") for i, jpeg in enumerate(JPEGS)]
WANTED = [torch.from_numpy(p.pixels()) for p in PICTURES]
DAMAGED = JPEGS[3][:200]


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that decodes by what stands in its list; its tensors stay here."""
    decoders = {}
    monkeypatch.setattr(batch, "GPU_DECODERS", decoders)
    monkeypatch.setattr(on_gpu, "GPU_DECODERS", decoders)
    monkeypatch.setattr(on_gpu, "_idle_stream", lambda device: SimpleNamespace(cuda_stream=7))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    on_gpu.gpu_decoder.cache_clear()
    yield decoders
    on_gpu.gpu_decoder.cache_clear()


def black(jpegs, device):
    """Tells its work from the host's."""
    return [torch.zeros(2, 3, 3, dtype=torch.uint8) for _ in jpegs]


def same(made, wanted):
    return len(made) == len(wanted) and all(map(torch.equal, made, wanted))


def test_on_a_cpu_they_are_what_each_is_alone():
    assert same(decode_batch(PICTURES, CPU), WANTED)
    assert decode_batch([], CPU) == []


def test_a_damaged_one_is_named():
    with pytest.raises(UnreadableImage, match="the third"):
        decode_batch([*PICTURES, Encoded(DAMAGED, "the third")], CPU)


def test_a_gpu_decodes_them_itself(gpu):
    gpu["black"] = black
    assert all(not pixels.any() for pixels in decode_batch(PICTURES, GPU))
    assert decode_batch([], GPU) == []


def test_what_a_gpu_cannot_decode_is_the_hosts(gpu):
    gpu["some"] = lambda jpegs, device: [None if jpeg == JPEGS[1] else black([jpeg], device)[0] for jpeg in jpegs]
    made = decode_batch(PICTURES, GPU)
    assert torch.equal(made[1], WANTED[1])
    assert not any(made[i].any() for i in (0, 2, 3, 4))


def test_a_gpu_that_refuses_the_batch_is_asked_one_by_one(gpu):
    def strict(jpegs, device):
        if JPEGS[2] in jpegs:
            raise RuntimeError("damaged")
        return black(jpegs, device)

    gpu["strict"] = strict
    made = decode_batch(PICTURES, GPU)
    assert torch.equal(made[2], WANTED[2])
    assert not any(made[i].any() for i in (0, 1, 3, 4))


def test_a_gpu_without_memory_is_no_reason_to_decode_elsewhere(gpu):
    def full(jpegs, device):
        if len(jpegs) > 1:
            raise torch.OutOfMemoryError("full")
        return black(jpegs, device)

    gpu["full"] = full
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        decode_batch(PICTURES, GPU)


def test_the_first_that_decodes_a_small_jpeg_is_chosen(gpu):
    gpu |= {"none": lambda jpegs, device: [None], "absent": absent, "black": black, "later": absent}
    assert on_gpu.gpu_decoder(GPU) == "black"


def test_a_gpu_without_a_decoder_is_an_error_that_names_the_way_out(gpu):
    gpu |= {"none": lambda jpegs, device: [None], "absent": absent}
    with pytest.raises(RuntimeError, match=r"cuda:0 \(none: decodes nothing; absent: ImportError: no libr") as failed:
        decode_batch(PICTURES, GPU)
    assert "nvidia-nvjpeg" in str(failed.value)
    assert "decode='workers'" in str(failed.value)


def absent(jpegs, device):
    raise ImportError("no library")


def test_nvimagecodec_gets_all_at_once_and_the_current_stream(gpu, monkeypatch):
    calls = []

    def decode(streams, **options):
        calls.append((streams, options))
        return [WANTED[0], None, WANTED[2]]

    fake = SimpleNamespace(CodeStream=lambda jpeg: ("stream", jpeg)), SimpleNamespace(decode=decode), "params"
    monkeypatch.setattr(on_gpu, "_nvimgcodec", lambda device, thread: fake)
    first, second, third = on_gpu.by_nvimgcodec(JPEGS[:3], GPU)
    assert calls == [([("stream", jpeg) for jpeg in JPEGS[:3]], {"params": "params", "cuda_stream": 7})]
    assert second is None
    assert (first.data_ptr(), third.data_ptr()) == (WANTED[0].data_ptr(), WANTED[2].data_ptr())  # no copy


def test_nvimagecodec_has_the_calls_that_a_gpu_is_asked_by():
    """On its CPU: a list of streams, decoded with the keywords that we give, None where it cannot."""
    library = pytest.importorskip("nvidia.nvimgcodec")
    decoder = library.Decoder(
        device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY,
        backends=[library.Backend(library.CPU_ONLY)],
        options=":fancy_upsampling=1",
    )
    params = library.DecodeParams(apply_exif_orientation=False)
    grey = encoded(picture(0, 9, 9, "L"), "jpeg")
    made = decoder.decode([library.CodeStream(jpeg) for jpeg in (JPEGS[0], grey)], params=params, cuda_stream=0)
    assert [image.shape for image in made] == [(30, 41, 3), (9, 9, 3)]
    assert all(map(library.Backend, (library.HW_GPU_ONLY, library.GPU_ONLY, library.HYBRID_CPU_GPU)))
    assert hasattr(made[0], "__dlpack__")
