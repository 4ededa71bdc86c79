"""Every op and the training steps on one GPU, side by side, and as a share of what the GPU can do.

    python bench/gpu.py                                        # ops, then steps: bench/results/gpu-<its name>.jsonl
    python bench/gpu.py --sections ops --only gpsa sinkhorn
    python bench/gpu.py --sections steps --only convit_small --forms ours "ours, graph" timm
    python bench/gpu.py --device cpu --small --out /tmp/gpu.jsonl   # tiny, to try the script

An op is forward and backward, in bfloat16 unless its case says float32. Each form is compared with the plain one first,
computed in float32 from the same inputs; what is wrong is told and not timed. Steps are compared by their first three
losses; eager, compiled and captured ones are rows of their own. Times are medians of interleaved rounds by the GPU's
clock. The roof (TFLOP/s of a large product, TB/s of a large copy) is measured in the same run. A row is written as soon
as it is there; one that fails is written with its error, and where it took the GPU's context with it, the others run in
a new process. Compiling takes minutes: --only and --forms divide the work into shorter runs, whose forms the table
brings together; compare what one run measured where it matters.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from gpu_case import Case  # bench/gpu_case.py: a script's own folder is on its path
from gpu_ops import CASES
from gpu_steps import MODELS, PLAIN, STAGES, batch_of, flops, makers
from measure import hardware, interleaved, on_device, peak_bytes
from tables import RESULTS
from torch import Tensor

PACKAGES = ("triton", "timm", "lightly", "liger_kernel")
# what two orders of sums and one rounding of every result may differ by, relative to the norm
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 3e-2}
STEP_TOLERANCE = 3e-2  # of a loss, in bfloat16


def roof(device: str, small: bool) -> dict[str, float]:
    """What the device reaches: FLOP/s of a square product by type, bytes/s of a copy."""
    size, numbers = (256, 1 << 20) if small else (8192, 1 << 29)
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        found[str(dtype).removeprefix("torch.")] = 2 * size**3 / median(lambda a=a, b=b: a @ b, device)
    source = torch.empty(numbers, device=device, dtype=torch.bfloat16).zero_()
    target = torch.empty_like(source)
    return found | {"bytes": 4.0 * numbers / median(lambda: target.copy_(source), device)}


def median(function: Callable[[], object], device: str, rounds: int = 9) -> float:
    return statistics.median(timed({"": function}, rounds, device)[""])


def timed(functions: dict[str, Callable], rounds: int, device: str) -> dict[str, list[float]]:
    return interleaved(functions, rounds, on_device if device == "cuda" else None)


def passes(form: Callable, inputs: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """A call is forward and backward: what the form gives, then the gradients of inputs that require one."""
    leaves = [x for x in inputs if x.requires_grad]
    ones: list[Tensor] = []

    def call() -> tuple[Tensor, ...]:
        found = form(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        if not leaves:
            return found
        if not ones:
            ones.extend(torch.linspace(-1, 1, f.numel(), device=f.device).to(f.dtype).view(f.shape) for f in found)
        return *found, *torch.autograd.grad(found, leaves, [o.to(f.dtype) for o, f in zip(ones, found, strict=True)])

    return call


def error(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    """The largest |found - wanted| / |wanted| of the tensors, as vectors."""
    pairs = [(f.detach().double(), w.detach().double()) for f, w in zip(found, wanted, strict=True)]
    return max(float((f - w).norm() / w.norm().clamp(min=1e-12)) for f, w in pairs)


def again(inputs: list[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """Copies of inputs, as leaves, in their own type or another."""
    return [x.detach().to(dtype or x.dtype, copy=True).requires_grad_(x.requires_grad) for x in inputs]


def op_row(name: str, args: argparse.Namespace, peak: dict[str, float]) -> dict:
    """Times, memory and share of the roof of an op's forms; those that are wrong or missing, with the reason."""
    case: Case = CASES[name](torch.zeros((), device=args.device, dtype=torch.bfloat16), args.small)
    forms = {**case.forms, "compiled": torch.compile(case.forms["plain"], dynamic=False)}
    wanted = passes(case.forms["plain"], again(case.inputs, torch.float32))()
    dtype = case.inputs[0].dtype
    right, wrong = {}, {}
    for kind, form in forms.items():
        if args.forms and kind not in args.forms:
            continue
        try:
            off = error(passes(form, again(case.inputs))(), wanted)
        except Exception as why:
            wrong[kind] = f"{type(why).__name__}: {str(why)[:300]}"
            continue
        if off <= TOLERANCE[dtype]:
            right[kind] = passes(form, again(case.inputs))
        else:
            wrong[kind] = f"differs from the plain form in float32 by {off:.2g} of its norm"
    right |= {
        kind: passes(form, again(case.inputs))
        for kind, form in case.unlike.items()
        if kind in (args.forms or case.unlike)
    }
    row = measured(right, args)
    work, moved = case.work
    least = max(work / peak[str(dtype).removeprefix("torch.")], moved / peak["bytes"])
    return row | {
        "shape": case.shape,
        "dtype": str(dtype).removeprefix("torch."),
        "bound": "memory" if moved / peak["bytes"] >= least else "compute",
        "share_of_roof": {kind: 1e3 * least / ms for kind, ms in row["milliseconds"].items()},
        "wrong": wrong,
        "skipped": case.skipped,
    }


def step_row(
    name: str, args: argparse.Namespace, peak: dict[str, float], stage: tuple[str, ...], wanted: list[float]
) -> dict:
    """Times, memory, images/s and share of the peak of a stage's forms of a training step.

    The first three losses are `wanted`; where there are none yet, the first form's become that.
    """
    batch = batch_of(name, args.batch, args.small, args.device)
    right, wrong = {}, {}
    for kind, make in makers(name, batch, args.precision, args.small).items():
        if kind not in stage or (args.forms and kind not in args.forms):
            continue
        try:
            step = make()
            losses = [float(step()) for _ in range(3)]
            wanted.extend(losses if not wanted else ())
            if not kind.startswith(PLAIN) and differ(losses, wanted):
                wrong[kind] = f"losses {losses}, and the first form's {wanted}"
                continue
            for _ in range(3):  # past the capture of a graph
                step()
            right[kind] = step
        except Exception as why:
            wrong[kind] = f"{type(why).__name__}: {str(why)[:300]}"
    row = measured(right, args)
    work = args.batch * flops(name, args.small)
    seconds = {kind: ms / 1e3 for kind, ms in row["milliseconds"].items()}
    return row | {
        "batch": args.batch,
        "dtype": args.precision,
        "images_per_second": {kind: args.batch / s for kind, s in seconds.items()},
        "share_of_roof": {kind: work / peak[args.precision] / s for kind, s in seconds.items()},
        "wrong": wrong,
        "skipped": {},
    }


def differ(losses: list[float], wanted: list[float]) -> bool:
    """Whether one is off by more than bfloat16 may be; so is what is no number."""
    return not all(abs(a - b) <= STEP_TOLERANCE * abs(b) for a, b in zip(losses, wanted, strict=True))


def measured(forms: dict[str, Callable], args: argparse.Namespace) -> dict:
    """Medians, quartiles and extra memory of each form."""
    seconds = timed(forms, args.rounds, args.device)
    quartiles = {kind: statistics.quantiles(s, n=4, method="inclusive") for kind, s in seconds.items()}
    return {
        "milliseconds": {kind: 1e3 * statistics.median(s) for kind, s in seconds.items()},
        "quartiles": {kind: [1e3 * q[0], 1e3 * q[2]] for kind, q in quartiles.items()},
        "extra_megabytes": {kind: peak_bytes(form, args.device) / 1e6 for kind, form in forms.items()},
    }


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def line(row: dict) -> str:
    """A row for the screen."""
    if "error" in row:
        return f"{row['row']:14} {row['error']}"
    cells = [
        f"{kind} {ms:.3f} ms ({100 * row['share_of_roof'][kind]:.0f} %)" for kind, ms in row["milliseconds"].items()
    ]
    cells += [f"{kind}: {why}" for kind, why in row["wrong"].items()]
    return f"{row['row']:14} " + "; ".join(cells)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=("ops", "steps"), default=["ops", "steps"])
    parser.add_argument("--only", nargs="+", choices=[*CASES, *MODELS], help="some ops and models")
    parser.add_argument("--forms", nargs="+", help="some forms, by their names in the table")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=0, help="of the steps; 256, with --small 4")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"], help="of the steps")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    parser.add_argument("--skip", type=int, default=0, help="so many rows of this list are there already")
    parser.add_argument("--note", default="", help="words that go with the rows, e.g. why a target is missed")
    parser.add_argument("--out", type=Path, help="where JSON lines are appended")
    args = parser.parse_args()
    if args.device == "cpu" and args.out is None:
        parser.error("--device cpu is there to try the script; say with --out where its lines go")
    args.batch = args.batch or (4 if args.small else 256)
    return args


def main() -> None:
    args = arguments()
    out = args.out or RESULTS / f"gpu-{torch.cuda.get_device_name().lower().replace(' ', '-')}.jsonl"
    peak = roof(args.device, args.small)
    where = f"{hardware(args.device)}, {versions()}"
    print(f"{where}\nroof: {', '.join(f'{name} {value / 1e12:.3g} T/s' for name, value in peak.items())}", flush=True)
    about = {"bench": "gpu", "n": args.rounds, "roof": peak, "note": args.note, "hardware": where}
    for number, (section, name, make) in enumerate(rows(args)):
        if number < args.skip:
            continue
        try:
            found = make(peak)
        except Exception as why:
            found = {"error": f"{type(why).__name__}: {str(why)[:300]}"}
        row = {"section": section, "row": name, **found, **about}
        print(line(row), flush=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if args.device == "cuda" and lost():
            again_from(number + 1)
        torch.compiler.reset()
        if args.device == "cuda":
            torch.cuda.empty_cache()


def rows(args: argparse.Namespace) -> list[tuple[str, str, Callable[[dict], dict]]]:
    """(section, name, what makes it of the roof) of each row that is asked for."""
    found: list[tuple[str, str, Callable[[dict], dict]]] = []
    if "ops" in args.sections:
        found += [("ops", name, partial(op_row, name, args)) for name in CASES]
    for name in MODELS if "steps" in args.sections else ():
        wanted: list[float] = []
        stages = [stage for stage in STAGES if not args.forms or set(stage) & set(args.forms)]
        found += [("steps", name, partial(step_row, name, args, stage=s, wanted=wanted)) for s in stages]
    return [row for row in found if not args.only or row[1] in args.only]


def lost() -> bool:
    """Whether the GPU's context is gone, as after an illegal access: nothing in this process can use the GPU again."""
    try:
        torch.cuda.synchronize()
    except Exception:  # torch.AcceleratorError, RuntimeError before it
        return True
    return False


def again_from(number: int) -> None:
    """This process becomes a new one that goes on with that row."""
    print(f"the GPU's context is lost: on from row {number} in a new process", flush=True)
    os.execv(sys.executable, [sys.executable, *sys.argv, "--skip", str(number)])


if __name__ == "__main__":
    main()
