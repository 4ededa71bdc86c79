"""A GPU that lacks what a kernel wants is served by PyTorch's operations; its limits are asked for in one place."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.tables import rows
from blocks.ops import choose as choice
from blocks.ops import gpsa_fused, nt_xent
from blocks.ops.choose import choose

GPUS = {  # (compute capability, shared memory of a program in bytes)
    "T4": ((7, 5), 65_536),
    "RTX 4090": ((8, 9), 101_376),
    "A100": ((8, 0), 166_912),
    "H200": ((9, 0), 232_448),
}


@pytest.fixture(params=GPUS)
def gpu(request, monkeypatch):
    """The name of a GPU that is there in pretence, with kernels that are measured."""
    (major, minor), room = GPUS[request.param]
    found = SimpleNamespace(major=major, minor=minor, shared_memory_per_block_optin=room)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    monkeypatch.setattr(choice, "KERNELS_ARE_MEASURED", True)
    monkeypatch.setattr(choice, "HAS_TRITON", True)
    return request.param


def there(*shape, dtype=torch.float32):
    with FakeTensorMode():
        return torch.empty(*shape, dtype=dtype, device="cuda:0")


def gpsa_takes(channels, width, dtype):
    x, rows, cols = there(1, 1, 2 * width, channels, dtype=dtype), there(1, 2, 2), there(1, width, width)
    return choose("auto", x, lambda: gpsa_fused.unsupported(x, x, x, rows, cols)) == "triton"


def test_a_kernel_that_wants_little_runs_from_ampere_on(gpu):
    x = there(3)
    assert choose("auto", x) == ("torch" if gpu == "T4" else "triton")
    if gpu == "T4":
        with pytest.raises(ValueError, match=r"of capability \(7, 5\), and kernels want \(8, 0\)"):
            choose("triton", x)


def test_the_rows_of_nt_xent_are_as_long_as_there_is_room(gpu):
    longest = {"T4": 0, "RTX 4090": 64, "A100": 128, "H200": 128}[gpu]
    for length in (16, 64, 65, 128, 129):
        z = there(2, 8, length)
        assert (choose("auto", z, nt_xent._unsupported(z)) == "triton") == (length <= longest)


def test_gpsa_runs_where_its_tiles_fit(gpu):
    half, single = torch.bfloat16, torch.float32
    usual = {(48, 14, half), (64, 64, half), (128, 24, half), (64, 2, half), (64, 32, single)}
    large = {(64, 1, half), (65, 4, half), (128, 32, single)}  # over the 101,376 bytes of cards of a desk
    fit = {"T4": set(), "RTX 4090": usual, "A100": usual | large, "H200": usual | large}
    assert {case for case in usual | large if gpsa_takes(*case)} == fit[gpu]
    assert not gpsa_takes(64, 65, half)
    assert not gpsa_takes(64, 33, single)


def test_what_gpsa_takes_of_shared_memory_is_what_was_compiled():
    """The largest of all grids for each entry of the table, no more: a GPU is not refused for nothing."""
    compiled = dict.fromkeys(gpsa_fused.SHARED, 0)
    for line in rows("gpsa-compiled.jsonl"):
        kind, channels, width = line["bytes_each"], line["channels"], line["width"]
        entry = next(at for at in compiled if at[0] == kind and channels <= at[1] and width <= at[2])
        compiled[entry] = max(compiled[entry], line["shared"])
        assert line["shared"] <= gpsa_fused.shared_bytes(kind, channels, width), line
    assert compiled == gpsa_fused.SHARED


def test_registers_of_gpsas_usual_grids_are_hardly_spilled():
    """A few bytes of a thread's 1,020: training in half precision on grids of 14, 28 and 32 a side."""
    usual = [x for x in rows("gpsa-compiled.jsonl") if x["bytes_each"] == 2 and x["width"] == x["height"] in (16, 32)]
    assert len(usual) > 20
    assert max(line["spilled"] for line in usual) <= 16


def test_amds_gpus_take_no_kernel(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(choice, "KERNELS_ARE_MEASURED", True)
    assert choose("auto", there(3)) == "torch"
    assert choice.no_room(there(3), 1)


def test_a_compiler_takes_the_limits_for_constants(gpu):
    def reason(x):
        return x - 1 if choice.too_old(0) else x + choice.shared_memory(0)

    torch.compiler.reset()  # a function is compiled once for all GPUs of this test
    found = torch.compile(reason, backend="eager", fullgraph=True)(torch.zeros(2))
    assert found.tolist() == [-1.0 if gpu == "T4" else GPUS[gpu][1]] * 2
