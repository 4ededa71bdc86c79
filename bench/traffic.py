"""What a training step moves and multiplies on a GPU, counted without one: `python bench/traffic.py [model ..]`.

Nothing is computed: tensors have a shape and no values. An operation reads each number of its inputs once and writes
each of its results; views are free. The least time of a step is the sum over its operations, one after another, of what
takes longer, the bytes or the products of matrices, at the speeds that were measured on an H200: no run of the same
operations can be faster, though a compiler may join some. Steps are those of bench/gpu.py, in bfloat16.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from gpu_steps import MODELS, OURS, PLAIN, batch_of, knobs, models, our_step  # bench/gpu_steps.py
from tables import RESULTS
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import blocks
from blocks.ops import choose
from blocks.train.counting import counting

NAME = "traffic.jsonl"
FLOPS, BYTES = 790e12, 4.3e12  # a second, of an H200: a large product in bfloat16, and a large copy
UPDATE = 28  # bytes of AdamW in one pass for each float32 number: it, its gradient, its moments, and what is written
ATTENTION = {"blocks.gpsa.default": 2, "blocks.gpsa_backward.default": 5}  # products of queries with all keys
GROUPS = {  # by what is in an operation's name; the first that fits
    "attention": ("attention", "gpsa", "softmax", "bmm"),
    "products": ("mm", "convolution"),
    "GELU": ("gelu",),
    "norms, residuals": ("norm", "aten.add"),
}


class Traffic(TorchDispatchMode):
    """Seconds, by group, bytes, FLOP and number of the operations inside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.flops, self.operations = 0, 0, 0
        self.seconds = dict.fromkeys([*GROUPS, "the rest"], 0.0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = str(func)
        if func.is_view or any(word in name for word in ("view", "detach", "empty", "prim.")):
            return out
        moved = sum(distinct(x) for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
        count = flop_registry.get(func._overloadpacket)
        flops = count(*args, **kwargs, out_val=out) if count else gpsa_flops(name, args)
        group = next((g for g, words in GROUPS.items() if any(word in name for word in words)), "the rest")
        self.bytes, self.flops, self.operations = self.bytes + moved, self.flops + flops, self.operations + 1
        self.seconds[group] += max(moved / BYTES, flops / FLOPS)
        return out

    @staticmethod
    def keep(x: Tensor) -> Tensor:
        """What `counting` calls for what autograd saves."""
        return x


def gpsa_flops(name: str, args: tuple) -> int:
    """Of a GPSA kernel's products with q, k and v [B, h, N, d], without those of position; 0 of other operations."""
    if name not in ATTENTION:
        return 0
    v = args[2]
    return 2 * ATTENTION[name] * v.numel() * v.shape[2]


def distinct(x: Tensor) -> int:
    """The bytes of a tensor's numbers, those of an expanded one once."""
    sizes = [size for size, stride in zip(x.shape, x.stride(), strict=True) if stride]
    return torch.Size(sizes).numel() * x.element_size()


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Ops choose for "meta" as they would for a new GPU."""
    before = choose.on_gpu, choose.too_old
    choose.on_gpu, choose.too_old = (lambda tensor: tensor.is_meta), (lambda device: None)
    try:
        yield
    finally:
        choose.on_gpu, choose.too_old = before


PRODUCTS = F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__
WIDE = F.softmax, Tensor.softmax, F.layer_norm, F.cross_entropy, torch.sum, Tensor.sum


class Autocast(TorchFunctionMode):
    """What torch.autocast does to these models on a GPU: products in bfloat16, softmax, norms and sums in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return func(*(x.bfloat16() for x in args[:3]))
        if func in PRODUCTS or func in WIDE:
            dtype = torch.bfloat16 if func in PRODUCTS else torch.float32
            args, kwargs = torch.utils._pytree.tree_map_only(
                Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, (args, kwargs)
            )
        return func(*args, **kwargs)


def of_ours(name: str, form: str, size: int) -> Traffic:
    """A step of our model, or with "plain ViT" of the ConViT's shape, after a first one."""
    model = blocks.vit(**knobs(name, False), qkv_bias=False) if form.startswith(PLAIN) else models(name, False)[0]
    on, _ = OURS[form.replace(PLAIN, "ours")]
    with as_on_a_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        batch = {n: x.to("meta") for n, x in batch_of(name, size, False, "cpu").items()}
        step = our_step(model, None, batch, "bfloat16", on, False)
        step()
        return counted(step)


def of_timm(name: str, size: int) -> Traffic:
    """A step of timm's model by autocast, its update as if in one pass."""
    batch = {n: x.to("meta") for n, x in batch_of(name, size, False, "cpu").items()}
    with torch.device("meta"):
        module = models(name, False)[1]()

    def step() -> None:
        with Autocast():
            loss = F.cross_entropy(module(batch["images"]), batch["labels"])
        loss.backward()

    step()  # makes what ConViT's layers keep of their grid
    module.zero_grad(set_to_none=True)
    traffic = counted(step)
    update = UPDATE * sum(p.numel() for p in module.parameters())
    traffic.bytes, traffic.operations = traffic.bytes + update, traffic.operations + 1
    traffic.seconds["the rest"] += update / BYTES
    return traffic


def counted(step: Callable[[], Any]) -> Traffic:
    traffic = Traffic()
    with counting(traffic):
        step()
    return traffic


def row(name: str, form: str, size: int) -> dict:
    traffic = of_timm(name, size) if form == "timm" else of_ours(name, form, size)
    return {
        "bench": "traffic",
        "row": name,
        "form": form,
        "batch": size,
        "gigabytes": traffic.bytes / 1e9,
        "teraflop": traffic.flops / 1e12,
        "operations": traffic.operations,
        "milliseconds": {group: 1e3 * seconds for group, seconds in traffic.seconds.items()},
        "speeds": {"flops": FLOPS, "bytes": BYTES},
        "versions": f"torch {torch.__version__}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=", ".join(MODELS))
    parser.add_argument("--batch", type=int, default=256)
    args = parser.parse_args()
    unknown = sorted(set(args.models) - set(MODELS))
    if unknown:
        parser.error(f"{', '.join(unknown)} is none of {', '.join(MODELS)}")
    found = []
    for name in args.models or MODELS:
        plain = [f"{PLAIN}, kernels"] if name.startswith("convit") else []
        for form in ("ours", "ours, kernels", *plain, "timm"):
            found.append(row(name, form, args.batch))
            last = found[-1]
            size = f"{last['operations']:6} ops {last['gigabytes']:6.1f} GB {last['teraflop']:5.2f} TFLOP"
            print(f"{name:14}{form:20}{size} {sum(last['milliseconds'].values()):6.2f} ms")
    if not args.models:
        (RESULTS / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in found))


if __name__ == "__main__":
    main()
