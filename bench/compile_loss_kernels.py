"""Compiles the kernels of losses, of the optimizer and of draws for an H100 or H200 on a machine without one.

`python bench/compile_loss_kernels.py [name ...]`. What the lines say: bench/compile_case.py.
"""

import sys
from collections.abc import Iterator

import triton.language as tl

from bench.compile_case import Case, show
from blocks.ops.kernels import adamw_ema, cross_entropy, dropout, moving_average, nt_xent, sinkhorn, threefry

ROWS = {"views": "i32", "rows": "i32", "width": "i32=16", "num_codes": "i32"}
STRIDES = {"s_view": "i32=16", "s_row": "i32=16", "s_col": 1, "t_view": "i32=16", "t_row": "i32=16", "t_col": 1}


def of_cross_entropy() -> Iterator[Case]:
    numbers = {"inverse": "fp32", "keep": "fp32", "spread": "fp32", **ROWS, **STRIDES}
    for kind, labels in (("*fp32", False), ("*bf16", False), ("*bf16", True)):
        targets = {"targets": "*i64" if labels else "*fp32", "counts": None if labels else "*i32"}
        own = {"scores": kind, **targets, "log_sums": "*fp32", **numbers, "LABELS": labels}
        for block, warps in ((4096, 8), (1024, 4)):
            name = f"{kind} {'labels' if labels else 'codes'} {block}"
            yield name, cross_entropy._forward, {**own, "losses": "*fp32", "BLOCK": block}, warps
            yield name, cross_entropy._backward, {**own, "grads": "*fp32", "out": kind, "BLOCK": block}, warps


def of_sinkhorn() -> Iterator[Case]:
    pointers = dict.fromkeys(("tops", "lows", "sums", "parts", "out"), "*fp32")
    sizes = {"inverse": "*fp32", "samples": "i32", "width": "i32", "s_problem": "i32", "s_row": "i32", "s_col": 1}
    for counted in (False, True):
        own = {"scores": "*fp32", "counted": "*i1" if counted else None, **pointers, **sizes, "COUNTED": counted}
        for first, last in ((True, False), (False, False), (False, True)):
            stage = {"ROWS": 2, "COLS": 1024, "BOUNDED": False, "FIRST": first, "LAST": last}
            yield f"first {first} last {last}", sinkhorn._sweep, {**own, **stage}, 4
        whole = {**own, "bound": "fp32", "iterations": "i32", "ROWS": 128, "COLS": 128, "BOUNDED": False}
        yield "128 x 128", sinkhorn._solve, whole, 16


def of_nt_xent() -> Iterator[Case]:
    pointers = dict.fromkeys(("rows", "everyone", "sums", "grads", "out"), "*fp32")
    sizes = dict.fromkeys(("m", "total", "views", "blocks"), "i32")
    strides = {"width": "i32=16", "r_row": "i32=16", "r_col": 1, "e_row": "i32=16", "e_col": 1}
    for wide in (64, 128):
        tile = {"ROWS": nt_xent.ROWS, "COLS": nt_xent.COLS, "WIDE": wide, "PRECISION": "tf32x3"}
        for kernel in (nt_xent._sums, nt_xent._pull):
            yield str(wide), kernel, {**pointers, **sizes, **strides, "inverse": "fp32", **tile}, 8


def of_adamw_ema() -> Iterator[Case]:
    own = {"table": "*i64", "factors": "*fp32", "chunks": "*i32", "lr": "*fp64", "count": "*i64", "skip": "*i1"}
    own |= {"factor": "*fp32", "decay": None, "ema_decay": "*fp64"}
    own |= dict.fromkeys(("rest1", "rest2", "log1", "log2", "eps", "weight_decay", "ema_rest"), "fp32")
    sizes = {"FIELDS": adamw_ema.FIELDS, "CHUNK": adamw_ema.CHUNK, "BLOCK": adamw_ema.BLOCK}
    for name, copy, average, aligned in (("all", tl.bfloat16, True, True), ("alone", None, False, True)):
        kinds = {"GRAD": tl.float32, "COPY": copy, "AVERAGE": average, "ALIGNED": aligned}
        yield name, adamw_ema._update, {**own, **sizes, **kinds}, 8


def of_moving_average() -> Iterator[Case]:
    sizes = {name: getattr(moving_average, name) for name in ("FIELDS", "CHUNK", "BLOCK")}
    own = {"table": "*i64", "chunks": "*i32", "keep": "*fp64", "skip": "*i1", "rest": "fp32", **sizes}
    yield "aligned", moving_average._move, {**own, "ALIGNED": True}, 8
    yield "unaligned", moving_average._move, {**own, "ALIGNED": False}, 8


def of_dropout() -> Iterator[Case]:
    for kind, size in (("*bf16", "i32=16"), ("*fp32", "i32=16"), ("*bf16", "i32")):  # attention weights: any size
        own = {"X": kind, "KEYS": "*i32", "OUT": kind, "size": size, "chunks": "i32", "keep": "fp32", "place": "i32"}
        yield f"{kind} {size}", dropout._dropout, {**own, "PAIRS": dropout.PAIRS}, 4


def of_threefry() -> Iterator[Case]:
    pointers = dict.fromkeys(("KEYS", "COUNTERS", "OUT"), "*i32")
    sizes = dict.fromkeys(("blocks", "each", "period"), "i32")
    for far in (False, True):
        yield f"far {far}", threefry._words, {**pointers, **sizes, "FAR": far, "BLOCK": threefry.BLOCK}, 4


if __name__ == "__main__":
    every = {
        "cross_entropy": of_cross_entropy,
        "sinkhorn": of_sinkhorn,
        "nt_xent": of_nt_xent,
        "adamw_ema": of_adamw_ema,
        "moving_average": of_moving_average,
        "dropout": of_dropout,
        "threefry": of_threefry,
    }
    for wanted in sys.argv[1:] or every:
        for case in every[wanted]():
            show(*case, num_stages=1)
