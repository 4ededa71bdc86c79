"""Compiles the kernels of augmentation for an H100 or H200 on a machine without one.

`python bench/compile_picture_kernels.py [name ...]`. One line each: shared memory, registers a thread, bytes of them
spilled (0 is wanted), the widest reading of memory.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any

import triton
from triton.compiler import ASTSource

from bench.compile_kernels import HOPPER, REGISTERS, largest, spilled
from blocks.ops.kernels import blur, colors, crop_resize, last_pass

Case = tuple[str, Any, dict[str, Any], int]  # what it is, the kernel, its arguments' types or constants, warps


def of_crop_resize() -> Iterator[Case]:
    own = {"BOXES": "*i32", "MIRRORED": "*i1", "FIRST": "*i32", "WEIGHTS": "*i32", "SOURCE": "*u8", "OUT": "*u8"}
    own |= dict.fromkeys(("pictures", "height", "width", "count", "rows", "cols", "longest", "taps", "between"), "i32")
    for support, name in ((0, "nearest"), (1, "bilinear"), (2, "bicubic"), (3, "lanczos")):
        yield name, crop_resize._weights, {**own, "SUPPORT": support, "BLOCK": crop_resize.COLS}, 1
    tile = {"ROWS": crop_resize.ROWS, "COLS": crop_resize.COLS}
    for last in (False, True):
        yield f"bicubic last {last}", crop_resize._along, {**own, **tile, "SUPPORT": 2, "LAST": last}, 1


def of_last_pass() -> Iterator[Case]:
    own = {"PICTURES": "*u8", "TABLE": "*i32", "LAM": "*fp64", "BOX": "*i64", "CUT": "*i1"}
    own |= dict.fromkeys(("OUT", "MEAN", "STD", "QUANTILES"), "*fp32")
    own |= dict.fromkeys(("pitch", "out_pitch", "pixels"), "i32=16") | dict.fromkeys(("count", "width", "boxes"), "i32")
    for how in (None, "const", "rand", "pixel"):
        for mixed in (False, True):
            options = {"HOW": how, "MIXED": mixed, "ALIKE": True, "BLOCK": last_pass.BLOCK}
            yield f"erased {how} mixed {mixed}", last_pass._finish, {**own, **options}, 4


def of_colors() -> Iterator[Case]:
    own = {"SOURCE": "*u8", "OUT": "*u8", "OPS": "*i32", "ARGS": "*fp32", "SUMS": "*i32"}
    own |= {"steps": "i32", "pixels": "i32=16", "programs": "i32", "BLOCK": colors.BLOCK, "PARTS": 128}
    for name, summed, here in (("greys", True, False), ("elsewhere", False, False), ("in place", False, True)):
        yield name, colors._walk, {**own, "SUMMED": summed, "HERE": here}, 4


def of_blur() -> Iterator[Case]:
    own = {"SOURCE": "*u8", "OUT": "*u8", "WEIGHTS": "*i32", "height": "i32=16", "width": "i32=16", "taps": "i32"}
    for name, across in (("across", True), ("down", False)):
        yield name, blur._blurred, {**own, "ACROSS": across, "ROWS": blur.ROWS, "COLS": blur.COLS}, 1


def show(name: str, kernel: Any, arguments: dict[str, Any], warps: int) -> None:
    """Compile a kernel and say what came of it. Types are words, "i32=16" a multiple of 16; all else is a constant."""
    signature, constants, attributes = {}, {}, {}
    for place, argument in enumerate(kernel.arg_names):
        value = arguments[argument]
        kind, *multiple = value.split("=") if isinstance(value, str) and argument != "HOW" else ("constexpr",)
        signature[argument] = kind
        if kind == "constexpr":
            constants[(place,)] = value
        elif kind[0] == "*" or multiple:
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=HOPPER, options={"num_warps": warps, "enable_fp_fusion": False})
    loads = sorted(set(re.findall(r"ld\.global[\w.:]*?(v\d\.b\d+|\.b\d+)", made.asm["ptx"])))
    where = f"{kernel.__module__.rsplit('.', 1)[-1]}{kernel.__name__} {name}"
    cubin, shared = made.asm["cubin"], made.metadata.shared
    kept = f"shared {shared:>6}  registers {largest(cubin, REGISTERS):>3}  spilled {spilled(cubin):>4}"
    print(f"{where:<48} {kept}  {' '.join(loads)}", flush=True)


if __name__ == "__main__":
    every = {"crop_resize": of_crop_resize, "colors": of_colors, "blur": of_blur, "last_pass": of_last_pass}
    for wanted in sys.argv[1:] or every:
        for case in every[wanted]():
            show(*case)
