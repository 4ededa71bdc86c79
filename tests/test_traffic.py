"""bench/traffic.py counts what is known: operands once, products by their size, kernels where a GPU would run them."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from blocks.ops.gpsa import gpsa

N, D, E = 1000, 64, 32  # rows, and widths of a linear map in bfloat16


@pytest.fixture
def traffic(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    import traffic

    return traffic


def empty(*shape, dtype=torch.bfloat16):
    return torch.empty(*shape, device="meta", dtype=dtype)


def test_a_product_reads_both_and_writes_one(traffic):
    x, weight = empty(N, D), empty(E, D)
    found = traffic.counted(lambda: F.linear(x, weight))
    assert found.bytes == 2 * (N * D + E * D + N * E)
    assert found.operations == 1
    assert found.flops == 2 * N * D * E
    assert found.seconds["products"] == max(found.bytes / traffic.BYTES, found.flops / traffic.FLOPS)


def test_views_are_free_and_what_is_expanded_is_read_once(traffic):
    x = empty(N, D)
    assert traffic.counted(lambda: x.view(D, N).t().unsqueeze(0).expand(8, N, D)).bytes == 0
    found = traffic.counted(lambda: x[:1].expand(N, D) + x)
    assert found.bytes == 2 * (D + N * D + N * D)
    assert found.seconds["norms, residuals"] == found.bytes / traffic.BYTES


def test_kernels_are_chosen_as_on_a_gpu(traffic, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr("blocks.ops.choose.KERNELS_ARE_MEASURED", True)
    q, rows, gate = empty(2, 3, 49, 16), empty(3, 7, 7, dtype=torch.float32), empty(3, dtype=torch.float32)

    def of_gpsa():
        return traffic.counted(lambda: gpsa(q, q, q, rows, rows, gate))

    with traffic.as_on_a_gpu():
        fused = of_gpsa()
    separable = of_gpsa()
    assert fused.flops == 2 * 2 * q.numel() * q.shape[2] < separable.flops
    assert fused.bytes < separable.bytes


def test_timms_products_are_in_half_precision_and_its_norms_in_single(traffic):
    x, weight = empty(N, D, dtype=torch.float32), empty(E, D, dtype=torch.float32)
    with traffic.Autocast():
        assert F.linear(x, weight).dtype == torch.bfloat16
        assert F.layer_norm(F.linear(x, weight), (E,)).dtype == torch.float32
