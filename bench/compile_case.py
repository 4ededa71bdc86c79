"""A kernel with some of its arguments' types, compiled for an H100 or H200 on a machine without one."""

import re
from typing import Any

import triton
from triton.compiler import ASTSource

from bench.compile_kernels import HOPPER, REGISTERS, largest, spilled

Case = tuple[str, Any, dict[str, Any], int]  # what it is, the kernel, its arguments' types or constants, warps


def show(name: str, kernel: Any, arguments: dict[str, Any], warps: int, **options: Any) -> None:
    """Compile a kernel and say what came of it. Types are words, "i32=16" a multiple of 16; all else is a constant.

    One line: shared memory, registers a thread, bytes of them spilled (0 is wanted), the widest reading of memory (v4
    of 32 bits is 16 bytes a thread), products by the tensor cores. The options are Triton's.
    """
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        typed = isinstance(value, str) and not parameter.is_constexpr
        kind, *multiple = value.split("=") if typed else ("constexpr",)
        signature[parameter.name] = kind
        if kind == "constexpr":
            constants[(place,)] = value
        elif kind[0] == "*" or multiple:
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=HOPPER, options={"num_warps": warps, **options})
    loads = sorted(set(re.findall(r"ld\.global[\w.:]*?(v\d\.b\d+|\.b\d+)", made.asm["ptx"])))
    products = "wgmma" if "wgmma" in made.asm["ptx"] else "mma" if "mma.sync" in made.asm["ptx"] else ""
    where = f"{kernel.__module__.rsplit('.', 1)[-1]}{kernel.__name__} {name}"
    cubin, shared = made.asm["cubin"], made.metadata.shared
    kept = f"shared {shared:>7}  registers {largest(cubin, REGISTERS):>3}  spilled {spilled(cubin):>4}"
    print(f"{where:<48} {kept}  {' '.join(loads)}  {products}", flush=True)
