"""Two processes on one machine: our step's bucketed sums against torch's DistributedDataParallel.

    python bench/ddp.py
    python bench/ddp.py --width 192 --rounds 20 --out ddp.jsonl

Each process holds both: the same ViT from the same weights, as a pure step on a donated state and as the same blocks in
an nn.Module under DDP (buckets of its default size) with torch.optim.AdamW(fused=True). They take turns in the same
processes, on gloo or NCCL. Ours averages loss and metrics over the processes, takes the gradient's norm, skips what is
not finite. "DDP" does not; "same work" is DDP that does. Processes that are started anew differ by some 1 %, in favour
of either: see `--launches`.
"""

import argparse
import json
import os
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.nn.functional as F
from measure import hardware, order, ratio  # bench/measure.py: a script's own folder is on its path
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from blocks.interop.module import to_module
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.names import no_decay_names
from blocks.random import key
from blocks.train.distributed import Processes, connect
from blocks.train.step import init_state, make_step
from blocks.trunks.vit import vit

LR, WEIGHT_DECAY = 1e-3, 0.05
Times = dict[str, list[float]]


def ours(objective: Supervised, batch: dict, device: torch.device) -> Callable[[], torch.Tensor]:
    """One call is one step; returns the loss over all processes."""
    optimizer = adamw(LR, weight_decay=WEIGHT_DECAY)
    state = init_state(objective, optimizer, key(0, device))
    step = make_step(objective, optimizer, donate=True)

    def call() -> torch.Tensor:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics["loss"]

    return call


def theirs(
    objective: Supervised, batch: dict, device: torch.device, checked: bool = False
) -> Callable[[], torch.Tensor]:
    """One call is one step of DDP; returns this process's loss. Checked, it skips what is not finite."""
    state = init_state(objective, adamw(LR), key(0, device))
    module = to_module(objective.model, state.params)
    model = DistributedDataParallel(module, gradient_as_bucket_view=True)
    named = dict(module.named_parameters())
    free = no_decay_names(tuple(named), tuple(p.ndim for p in named.values()), None)
    groups = [
        {"params": [p for n, p in named.items() if n not in free], "weight_decay": WEIGHT_DECAY},
        {"params": [p for n, p in named.items() if n in free], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, fused=True)

    def call() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(batch["images"]), batch["labels"])
        loss.backward()
        if checked:
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            if not (get_total_norm([p.grad for p in module.parameters()]) + mean).isfinite():
                return loss.detach()
        optimizer.step()
        return loss.detach()

    return call


def batch_of(args: argparse.Namespace, processes: Processes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(processes.rank)
    images = torch.randn(args.batch_size, 3, args.img_size, args.img_size, generator=generator)
    labels = torch.randint(100, (args.batch_size,), generator=generator)
    return {"images": images.to(processes.device), "labels": labels.to(processes.device)}


def timed(call: Callable[[], torch.Tensor], processes: Processes) -> float:
    """Seconds until the slower process has done one step."""
    processes.barrier()
    start = time.perf_counter()
    call()
    if processes.device.type == "cuda":
        torch.cuda.synchronize()
    processes.barrier()
    return time.perf_counter() - start


def agree(steps: dict[str, Callable[[], torch.Tensor]], processes: Processes) -> None:
    """Three steps of both; SystemExit where their losses over all processes differ."""
    for _ in range(3):
        mine, other, _ = (call() for call in steps.values())
        mean = processes.all_reduce_sum({"loss": other})["loss"] / processes.world_size
        if abs(mine - mean) > 1e-4 * abs(mean):
            raise SystemExit(f"the two do not compute the same: loss {mine.item()} and {mean.item()}")


def work(rank: int, args: argparse.Namespace, port: int, times_file: Path) -> None:
    """One process; the first one writes its {name: seconds of each round}."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(args.processes), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    with connect(args.device) as processes:
        torch.set_num_threads(args.threads)
        size = {"img_size": args.img_size, "patch_size": 16, "num_classes": 100}
        model = vit(**size, embed_dim=args.width, depth=args.depth, num_heads=args.width // 64)
        objective, batch = Supervised(model), batch_of(args, processes)
        steps = {
            "ours": ours(objective, batch, processes.device),
            "DDP": theirs(objective, batch, processes.device),
            "same work": theirs(objective, batch, processes.device, checked=True),
        }
        agree(steps, processes)
        times: Times = {name: [] for name in steps}
        for turn in range(args.rounds):
            for name in order(steps, turn):
                times[name].append(timed(steps[name], processes))
        if processes.is_main:
            times_file.write_text(json.dumps(times))
        dist.barrier()


def launch(args: argparse.Namespace) -> Times:
    """What new processes take."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as folder:
        times_file = Path(folder) / "times.json"
        multiprocessing.spawn(work, (args, port, times_file), nprocs=args.processes)
        return json.loads(times_file.read_text())


def report(args: argparse.Namespace, launches: list[Times]) -> None:
    times = {name: [seconds for found in launches for seconds in found[name]] for name in launches[0]}
    peers = {f"{name} / ours": name for name in ("DDP", "same work")}
    speeds = {pair: ratio(times[name], times["ours"]) for pair, name in peers.items()}
    apart = {pair: [ratio(found[name], found["ours"])[0] for found in launches] for pair, name in peers.items()}
    medians = {f"{name} ms": 1e3 * statistics.median(values) for name, values in times.items()}
    where = hardware(args.device)
    print(where)
    print(
        f"{args.processes} processes, ViT {args.depth} x {args.width}, {args.batch_size} images of {args.img_size} each"
    )
    print("   ".join(f"{name} {value:.1f}" for name, value in medians.items()))
    for name, (speed, low, high) in speeds.items():
        print(f"{name}: {speed:.2f} (quartiles of {len(times['ours'])} rounds: {low:.2f} to {high:.2f})")
        print(f"    launch by launch: {' '.join(f'{one:.3f}' for one in apart[name])}")
    if args.out:
        knobs = {name: value for name, value in vars(args).items() if name != "out"}
        line = {"bench": "ddp", "hardware": where, **knobs, **medians, **speeds, "launch by launch": apart}
        with args.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8, help="of each process")
    parser.add_argument("--launches", type=int, default=1, help="of the processes, one after another")
    parser.add_argument("--rounds", type=int, default=15, help="of a launch")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="append a JSON line")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)  # as the report says
    report(args, [launch(args) for _ in range(args.launches)])


if __name__ == "__main__":
    main()
