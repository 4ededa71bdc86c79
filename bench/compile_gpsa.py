"""Compiles GPSA's kernels for grids of every form, on a machine without a GPU: `python bench/compile_gpsa.py [sm ...]`.

A line each, kept in bench/results/gpsa-compiled.jsonl: shared memory (blocks.ops.gpsa_fused.SHARED is the most),
registers a thread and bytes of them spilled (0 is wanted). `sm` is a compute capability; without one 90 and 80.
"""

import json
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget

from bench.compile_kernels import REGISTERS, compiled, largest, spilled
from bench.tables import RESULTS, rows
from blocks.ops.gpsa_fused import SIDES, SLENDER
from blocks.ops.kernels import gpsa, gpsa_programs

NAME = "gpsa-compiled.jsonl"
TILES = {"weighted_sums": gpsa.forward_tiles, "grad_queries": gpsa.queries_tiles, "grad_keys": gpsa.keys_tiles}


class Case(NamedTuple):
    """A kernel, and what its tiles are a function of; `precision` is that of float32's products in PyTorch."""

    kernel: str
    bytes_each: int
    channels: int
    height: int
    width: int
    precision: str = "highest"


def cases() -> Iterator[Case]:
    """Rows of each power of two: a square, and the highest grid that the kernels take, which one kernel alone sees."""
    for bytes_each, channels, precision in [
        *((2, 64, "highest"), (2, 128, "highest"), (4, 64, "highest"), (4, 128, "highest")),
        *((4, 64, "high"), (4, 128, "high"), (2, 16, "highest"), (2, 32, "highest"), (4, 32, "highest")),
    ]:
        side = SIDES[bytes_each]
        for width in (1 << i for i in range(side.bit_length())):
            for kernel in TILES:
                yield Case(kernel, bytes_each, channels, width, width, precision)
            if width < side:
                yield Case("grad_queries", bytes_each, channels, min(SLENDER * width, side), width, precision)


def measure(case: Case, capability: int) -> dict:
    """What a kernel takes of a multiprocessor of this capability."""
    kind = torch.bfloat16 if case.bytes_each == 2 else torch.float32
    v, cols = (torch.empty(1, 1, 1, n, dtype=kind, device="meta") for n in (case.channels, case.width))
    torch.set_float32_matmul_precision(case.precision)
    constants = gpsa.constants(v, cols, TILES[case.kernel](v, cols))
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    constants |= gpsa.of_sums(v, case.height) | {"KEEP": True}
    function = getattr(gpsa_programs, case.kernel)
    used = {name: value for name, value in constants.items() if name in function.arg_names}
    target = GPUTarget("cuda", capability, 32)
    made = compiled(function, "bf16" if case.bytes_each == 2 else "fp32", used, target, **options)
    cubin = made.asm["cubin"]
    found = {"shared": made.metadata.shared, "registers": largest(cubin, REGISTERS), "spilled": spilled(cubin)}
    return {"triton": triton.__version__, "capability": capability, **case._asdict(), **found}


if __name__ == "__main__":
    wanted = [int(argument) for argument in sys.argv[1:]] or [90, 80]
    kept = [line for line in rows(NAME) if line["capability"] not in wanted]
    for capability in wanted:
        for case in cases():
            kept.append(measure(case, capability))
            print(json.dumps(kept[-1]), flush=True)
    (RESULTS / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in kept))
