"""ConViT against timm's ConViT and a plain ViT of the same width, depth and heads: one training pass, side by side.

    python bench/convit.py --sizes tiny small base --resolutions 224 448
    python bench/convit.py --device cuda --compile --peak-tflops 989

Forward + backward (gradients of all params), the same images, the same weights in both ConViTs, turns interleaved.
Times are medians; a ratio of times is followed by the quartiles of its rounds. "Kept" is what autograd keeps for the
backward pass besides params and images, exact. Targets: time <= 1.10 of the plain ViT, kept <= 0.55 of timm's.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import blocks
from bench.measure import hardware, interleaved, kept_bytes, ratio
from blocks import random, tree

WIDTHS = {"tiny": (192, 4), "small": (432, 9), "base": (768, 16)}  # embed_dim, num_heads: ConViT, table 1
CPU_BATCH = {("tiny", 224): 16, ("small", 224): 8, ("base", 224): 4, ("tiny", 448): 4, ("small", 448): 2}
CUDA_BATCH = {("tiny", 224): 512, ("small", 224): 256, ("base", 224): 128, ("tiny", 448): 128, ("small", 448): 64}
TIME_TARGET, KEPT_TARGET = 1.10, 0.55


class Contestant:
    """A loss of one batch as a function of leaves: `loss()` for what it keeps, `step()` for the gradients."""

    def __init__(self, forward: Callable[[Tensor], Tensor], leaves: list[Tensor], batch: tuple[Tensor, Tensor]):
        self.forward, self.leaves, self.batch = forward, leaves, batch

    def loss(self) -> Tensor:
        images, labels = self.batch
        return F.cross_entropy(self.forward(images).float(), labels)

    def step(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.loss(), self.leaves)

    def kept(self) -> int:
        return kept_bytes(self.loss, [*self.leaves, *self.batch])


def ours(model: blocks.Model, params: tree.Tree, batch: tuple[Tensor, Tensor], compiled: bool) -> Contestant:
    params = tree.map(lambda t: t.detach().to(batch[0]).requires_grad_(), params)
    forward = torch.compile(model.__call__, fullgraph=True) if compiled else model.__call__
    return Contestant(lambda images: forward(params, images), list(tree.flatten(params).values()), batch)


def timms(module: torch.nn.Module, batch: tuple[Tensor, Tensor], compiled: bool) -> Contestant:
    module = module.to(batch[0])
    forward = torch.compile(module) if compiled else module
    return Contestant(forward, list(module.parameters()), batch)


def contestants(size: str, resolution: int, batch: tuple[Tensor, Tensor], compiled: bool) -> dict[str, Contestant]:
    """Ours, timm's with the same weights, and the plain ViT. Raises ValueError when the two ConViTs' logits differ."""
    embed_dim, num_heads = WIDTHS[size]
    model = blocks.convit(img_size=resolution, embed_dim=embed_dim, num_heads=num_heads)
    params = model.init(random.key(0))
    theirs = timm.create_model(f"convit_{size}", img_size=resolution)
    theirs.load_state_dict(blocks.to_timm(model, params))
    _check_equal(model, params, theirs, batch[0][:1].float().cpu())
    plain = blocks.vit(img_size=resolution, embed_dim=embed_dim, num_heads=num_heads, qkv_bias=False)
    return {
        "convit": ours(model, params, batch, compiled),
        "timm": timms(theirs, batch, compiled),
        "vit": ours(plain, plain.init(random.key(0)), batch, compiled),
    }


@torch.no_grad()
def _check_equal(model: blocks.Model, params: tree.Tree, theirs: torch.nn.Module, images: Tensor) -> None:
    difference = (model(params, images) - theirs(images)).abs().max().item()
    if not difference < 1e-4:
        raise ValueError(f"the logits differ from timm's by {difference}: this would compare different models")


def flops(size: str, resolution: int) -> float:
    """Matmul FLOPs of a training pass of one image: twice the multiplications, three times the forward pass."""
    width, depth, tokens = WIDTHS[size][0], 12, (resolution // 16) ** 2
    layer = 24 * tokens * width**2 + 4 * tokens**2 * width
    return 3.0 * (depth * layer + 2 * tokens * 16 * 16 * 3 * width + 2 * width * 1000)


def measure(size: str, resolution: int, args: argparse.Namespace) -> dict:
    """One row: times and kept bytes of every contestant, and their ratios."""
    on_cuda = torch.device(args.device).type == "cuda"
    batch_size = args.batch or (CUDA_BATCH if on_cuda else CPU_BATCH).get((size, resolution), 32 if on_cuda else 1)
    images = random.normal(random.key(1), (batch_size, 3, resolution, resolution)).to(args.device)
    labels = torch.arange(batch_size, device=args.device) % 1000
    batch = (images.bfloat16() if on_cuda else images, labels)
    kept = {name: c.kept() for name, c in contestants(size, resolution, batch, compiled=False).items()}
    runners = contestants(size, resolution, batch, args.compile)
    seconds = interleaved({name: c.step for name, c in runners.items()}, args.rounds)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    row = {
        "size": size,
        "resolution": resolution,
        "batch": batch_size,
        "device": args.device,
        "dtype": str(batch[0].dtype).removeprefix("torch."),
        "compiled": args.compile,
        "rounds": args.rounds,
        "seconds": median,
        "images_per_second": {name: batch_size / s for name, s in median.items()},
        "time_over_vit": ratio(seconds["convit"], seconds["vit"]),
        "timm_over_ours": ratio(seconds["timm"], seconds["convit"]),
        "kept_bytes": kept,
        "kept_over_timm": kept["convit"] / kept["timm"],
        "kept_over_vit": kept["convit"] / kept["vit"],
        "hardware": f"{hardware(args.device)}, timm {timm.__version__}",
    }
    if args.peak_tflops:
        work = flops(size, resolution) * batch_size / (args.peak_tflops * 1e12)
        row["share_of_peak"] = {name: work / s for name, s in median.items()}
    return row


HEADER = (
    f"{'size':>5} {'px':>4} {'batch':>5} | {'ours':>9} {'timm':>9} {'ViT':>9} ms | "
    f"{'ours/ViT':^19} {'timm/ours':^18} | "
    f"{'ours':>7} {'timm':>7} {'ViT':>7} MB kept | {'of timm':>7} {'of ViT':>6} | images/s"
)


def line(row: dict) -> str:
    """A row of the table; a missed target is marked with an exclamation mark."""
    times = " ".join(f"{1e3 * s:9.1f}" for s in row["seconds"].values())
    kept = " ".join(f"{b / 1e6:7.1f}" for b in row["kept_bytes"].values())
    slow = "!" if row["time_over_vit"][0] > TIME_TARGET else " "
    fat = "!" if row["kept_over_timm"] > KEPT_TARGET else " "
    cells = (
        f"{row['size']:>5} {row['resolution']:>4} {row['batch']:>5}",
        f"{times}   ",
        f"{_spread(row['time_over_vit'])}{slow} {_spread(row['timm_over_ours'])}",
        f"{kept}        ",
        f"{row['kept_over_timm']:6.2f}{fat} {row['kept_over_vit']:6.2f}",
        f"{row['images_per_second']['convit']:.1f}",
    )
    text = " | ".join(cells)
    if "share_of_peak" in row:
        text += ", share of peak " + " / ".join(f"{100 * s:.0f} %" for s in row["share_of_peak"].values())
    return text


def _spread(numbers: tuple[float, float, float]) -> str:
    middle, low, high = numbers
    return f"{middle:5.2f} ({low:.2f}-{high:.2f})".ljust(18)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--resolutions", nargs="+", type=int, default=[224, 448])
    parser.add_argument("--batch", type=int, default=0, help="images a pass; by default so many that it takes seconds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu", help="cpu: float32; cuda: bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile all three")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the device, for the share of its peak")
    parser.add_argument("--out", default=None, help="append one JSON line a row to this file")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    print(f"{hardware(args.device)}, timm {timm.__version__}; n = {args.rounds}\n{HEADER}", flush=True)
    for resolution in args.resolutions:
        for size in args.sizes:
            row = measure(size, resolution, args)
            print(line(row), flush=True)
            if args.out:
                with open(args.out, "a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
