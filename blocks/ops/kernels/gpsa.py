"""GPSA by its kernels: how large their tiles are, what each is launched with, and what is summed of its results."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton import knobs

from blocks.ops.attention import by_head
from blocks.ops.gpsa_fused import like_tokens, packed_like
from blocks.ops.kernels.fusion import FUSED
from blocks.ops.kernels.gpsa_programs import LOG2_E, grad_keys, grad_queries, weighted_sums


class Tiles(NamedTuple):
    """Queries and keys of a tile, and how a program is laid out.

    A function of shape and type: what a tuner times anew on every start would be another sum, and a run would not be
    what it was when it goes on.
    """

    queries: int
    keys: int
    num_warps: int
    num_stages: int


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    cols: Tensor,
    gate: Tensor,
    scale: float,
    num_prefix_tokens: int,
    keep: bool,
    tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out, content, log-sum-exp [B, h, N] to the base 2) of `gpsa`; with `keep` False no content, [0].

    q, k, v [B, h, N, d], rows [h, H, H], cols [h, W, W], gate [h]. The results lie in memory as [B, N, h, d].
    """
    q, k, v = (_dense_channels(x) for x in (q, k, v))
    rows, cols, gate = (x.float().contiguous() for x in (rows, cols, gate))
    tiles = tiles or forward_tiles(q, cols)
    out = like_tokens(v)
    content = like_tokens(v) if keep else v.new_empty(0)
    lse = torch.empty(v.shape[:3], dtype=torch.float32, device=v.device)
    weighted_sums[(triton.cdiv(v.shape[2], tiles.queries) * v.shape[0] * v.shape[1],)](
        *(q, k, v, rows, cols, gate, out, content, lse),
        *(q.stride()[:3], k.stride()[:3], v.stride()[:3], out.stride()[:3]),
        *(scale * LOG2_E.value, *_sizes(v, rows, cols, num_prefix_tokens)),
        KEEP=keep,
        **constants(v, cols, tiles),
    )
    return out, content, lse


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    cols: Tensor,
    gate: Tensor,
    content: Tensor,
    lse: Tensor,
    scale: float,
    num_prefix_tokens: int,
    tiles: tuple[Tiles, Tiles] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v) as [B, N, 3, h, d], rows, cols, gate from that of out [B, h, N, d].

    `tiles` are of queries' and keys' kernels.
    """
    q, k, v, grad = (_dense_channels(x) for x in (q, k, v, grad))
    wide_rows, wide_cols, wide_gate = (x.float().contiguous() for x in (rows, cols, gate))
    for_queries, for_keys = tiles or (queries_tiles(q, cols), keys_tiles(q, cols))
    sizes = _sizes(v, rows, cols, num_prefix_tokens)
    programs, (batch, heads) = triton.cdiv(v.shape[2], for_queries.queries), v.shape[:2]
    packed = packed_like(v)
    grad_q, grad_k, grad_v = by_head(packed)
    delta = torch.empty_like(lse)  # <grad, content>
    from_rows, from_cols = (lse.new_empty(batch, programs, *x.shape) for x in (rows, cols))
    strides = [x.stride()[:3] for x in (q, k, v, grad, content, grad_q)]
    grad_queries[(programs * batch * heads,)](
        *(grad, q, k, v, wide_rows, wide_cols, wide_gate, content, lse),
        *(grad_q, delta, from_rows, from_cols, *strides, scale, *sizes),
        **of_sums(v, rows.shape[-1]),
        **constants(v, cols, for_queries),
    )
    grad_keys[(_key_tiles(rows, cols, num_prefix_tokens, for_keys) * batch * heads,)](
        *(grad, q, k, v, wide_rows, wide_cols, wide_gate, lse, delta),
        *(grad_k, grad_v, *strides[:4], grad_k.stride()[:3], scale, *sizes),
        **constants(v, cols, for_keys),
    )
    to_rows, to_cols = from_rows.sum((0, 1)), from_cols.sum((0, 1))
    to_gate = (to_cols * wide_cols).sum((1, 2)) - delta[:, :, num_prefix_tokens:].sum((0, 2))  # <grad, P v - content>
    by_gate = wide_gate[:, None, None]
    return (
        packed,
        *((by_gate * to_rows).to(rows.dtype), (by_gate * to_cols).to(cols.dtype), to_gate.to(gate.dtype)),
    )


def forward_tiles(q: Tensor, cols: Tensor) -> Tiles:
    return _tiles(q, cols, Tiles(128, 64, 8, 3), Tiles(64, 64, 8, 2), Tiles(64, 32, 4, 2))


def queries_tiles(q: Tensor, cols: Tensor) -> Tiles:
    return _tiles(q, cols, Tiles(64, 64, 4, 2), Tiles(64, 64, 8, 2), Tiles(32, 32, 4, 2))


def keys_tiles(q: Tensor, cols: Tensor) -> Tiles:
    return _tiles(q, cols, Tiles(64, 64, 4, 2), Tiles(32, 64, 8, 2), Tiles(32, 32, 4, 2))


def _tiles(q: Tensor, cols: Tensor, small: Tiles, large: Tiles, single: Tiles) -> Tiles:
    """Two-byte types with heads of up to 64 channels, and of more, and float32; with room for a row of the grid.

    As large as registers allow (bench/compile_gpsa.py, Triton 3.9): on Hopper nothing of two-byte types spills but
    queries' gradient, on grids of 64 a side or several times as high as wide, 120 bytes a thread at most. Float32
    spills up to 136, with over 64 channels 448.
    """
    row = triton.next_power_of_2(cols.shape[-1])
    if knobs.runtime.interpret:
        return Tiles(32, max(32, row), 1, 1)
    wide = q.shape[-1] > 64
    two_bytes, four_bytes = (large, Tiles(32, 32, 8, 2)) if wide else (small, single)
    chosen = two_bytes if q.element_size() == 2 else four_bytes
    return chosen._replace(keys=max(chosen.keys, row))


def _dense_channels(x: Tensor) -> Tensor:
    """x [B, h, N, d] with channels side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _sizes(v: Tensor, rows: Tensor, cols: Tensor, prefix: int) -> tuple[int, int, int, int]:
    return v.shape[1], rows.shape[-1], cols.shape[-1], prefix


def constants(v: Tensor, cols: Tensor, tiles: Tiles) -> dict:
    exact = v.dtype != torch.float32 or torch.get_float32_matmul_precision() != "highest"
    return {
        "D": v.shape[-1],
        "DIM": max(16, triton.next_power_of_2(v.shape[-1])),
        "WIDE": triton.next_power_of_2(cols.shape[-1]),
        "QUERIES": tiles.queries,
        "KEYS": tiles.keys,
        "PRECISION": "tf32" if exact else "tf32x3",  # three products of tf32 halves are as good as float32
        **FUSED,
        "num_warps": tiles.num_warps,
        "num_stages": tiles.num_stages,
    }


def of_sums(v: Tensor, height: int) -> dict:
    """What the queries' kernel is compiled with besides: how it sums what the queries of a place say.

    By tensor cores, of float32 the first 22 bits: multiply-adds take so many registers that they spill. But beside
    float32's own products it is those that would then spill (Triton 3.9).
    """
    return {"HIGH": triton.next_power_of_2(height), "SUMS": "tf32x3" if v.element_size() == 2 else "ieee"}


def _key_tiles(rows: Tensor, cols: Tensor, prefix: int, tiles: Tiles) -> int:
    wide = triton.next_power_of_2(cols.shape[-1])
    return triton.cdiv(rows.shape[-1] + triton.cdiv(prefix, wide), tiles.keys // wide)
