"""Compiles the kernels of augmentation for an H100 or H200 on a machine without one.

`python bench/compile_picture_kernels.py [name ...]`. What the lines say: bench/compile_case.py.
"""

import sys
from collections.abc import Iterator

from bench.compile_case import Case, show
from blocks.ops.kernels import blur, colors, crop_resize, last_pass


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


if __name__ == "__main__":
    every = {"crop_resize": of_crop_resize, "colors": of_colors, "blur": of_blur, "last_pass": of_last_pass}
    for wanted in sys.argv[1:] or every:
        for case in every[wanted]():
            show(*case, enable_fp_fusion=False)
