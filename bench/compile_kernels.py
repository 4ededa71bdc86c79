"""Compiles kernels of layers for an H100 or H200 on a machine without one: `python bench/compile_kernels.py [name ..]`.

One line each: shared memory, bytes of registers spilled (0 is wanted), products by the tensor cores' own instructions.
"""

import struct
import sys
from types import ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from blocks.ops.kernels import gelu, residual_norm

HOPPER = GPUTarget("cuda", 90, 32)
FRAME_SIZE, REGISTERS = 0x11, 0x2F  # attributes of a cubin's .nv.info sections
FLOATS = {"ROWS", "COLS", "GATE", "LSE", "DELTA", "FROM_ROWS", "FROM_COLS", "MEAN", "DEVIATION", "PARTS"}


def compiled(function: Any, dtype: str, constants: dict, target: GPUTarget = HOPPER, **options: int) -> Any:
    """A kernel for pointers to `dtype`, or float32 where it is always that; sizes are int32."""
    signature: dict[str, Any] = {}
    for name in function.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("strides"):
            signature[name] = ("i32",) * 3
        elif name in ("scale", "eps"):
            signature[name] = "fp32"
        else:
            pointer = "*fp32" if name in FLOATS else f"*{dtype}"
            signature[name] = pointer if name.isupper() and name not in SIZES else "i32"
    places = {name: place for place, name in enumerate(function.arg_names)}
    aligned = {(places[n],): [["tt.divisibility", 16]] for n, kind in signature.items() if kind[0] == "*"}
    aligned |= {(places[n], i): [["tt.divisibility", 16]] for n in signature if n.endswith("strides") for i in range(3)}
    given = {(places[name],): value for name, value in constants.items() if name in places}
    source = ASTSource(fn=function, signature=signature, constexprs=given, attrs=aligned)
    return triton.compile(source, target=target, options=options | {"enable_fp_fusion": True})


SIZES = {"HEADS", "HEIGHT", "WIDTH", "PREFIX"}


def spilled(cubin: bytes) -> int:
    """Bytes of a thread's stack frame, which a kernel without spills does not have."""
    return largest(cubin, FRAME_SIZE)


def largest(cubin: bytes, attribute: int) -> int:
    """The largest value of an attribute that a kernel has."""
    start, size, count, _ = struct.unpack_from("<Q10xHHH", cubin, 0x28)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, start + i * size) for i in range(count)]
    found = 0
    for _, kind, _, _, offset, length, *_ in sections:
        if kind == 0x70000000:  # .nv.info, per kernel and of the file
            found = max(found, _value(cubin[offset : offset + length], attribute))
    return found


def _value(info: bytes, wanted: int) -> int:
    at = found = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == 4 and attribute == wanted:
            found = max(found, struct.unpack_from("<I", info, at + 8)[0])
        at += 4 + size if form == 4 else 4
    return found


def of_residual_norm(dtype: str, dim: int) -> None:
    layout = residual_norm._layout(dim)
    constants = {k: v for k, v in layout.items() if k.isupper()} | dict(HAS_GAMMA=True, HAS_SCALES=True, SAME=False)
    for name in ("_forward", "_backward"):
        show(residual_norm, name, dtype, constants, num_warps=layout["num_warps"])


def of_gelu(dtype: str) -> None:
    constants = {k: v for k, v in gelu._layout().items() if k.isupper()}
    for name in ("_forward", "_backward"):
        show(gelu, name, dtype, constants, num_warps=4)


def show(module: ModuleType, name: str, dtype: str, constants: dict, **options: int) -> None:
    function = getattr(module, name)
    kernel = compiled(function, dtype, {k: v for k, v in constants.items() if k in function.arg_names}, **options)
    products = "tensor cores of Hopper" if "wgmma" in kernel.asm["ptx"] else ""
    place = f"{module.__name__.rsplit('.', 1)[-1]}.{name.lstrip('_')}"
    where = f"{place} {dtype} {constants.get('D', '')}"
    print(
        f"{where:<40} shared {kernel.metadata.shared:>7}  spilled {spilled(kernel.asm['cubin']):>4}  {products}",
        flush=True,
    )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["residual_norm", "gelu"]
    for dtype in ("bf16", "fp32"):
        for dim in (384, 768, 1024) if "residual_norm" in wanted else ():
            of_residual_norm(dtype, dim)
        if "gelu" in wanted:
            of_gelu(dtype)
