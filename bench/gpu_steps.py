"""The training steps that `bench/gpu.py` measures: ours in all its forms, timm's eager and compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module

import torch
from torch import Tensor

import blocks
from blocks import key, tree
from blocks.objectives.supervised import Supervised
from blocks.ops import choose
from blocks.optim.adamw import adamw
from blocks.train.step import init_state, make_step
from blocks.trunks.model import Model

LR, WEIGHT_DECAY = 1e-3, 0.05  # bench/step.py's
WIDTHS = {"small": (432, 9), "base": (768, 16)}  # of ConViTs: width, heads
MODELS = ("convit_small", "convit_base", "vit_small", "vit_base")
# name: (kernels, compile)
OURS = {
    "ours": (False, False),
    "ours, kernels": (True, False),
    "ours, layers": (False, "layers"),
    "ours, loss": (False, "loss"),
    "ours, step": (False, "step"),
    "ours, graph": (False, "graph"),
    "ours, kernels, loss": (True, "loss"),
    "ours, kernels, graph": (True, "graph"),
}
PLAIN = "plain ViT"  # ours, of the ConViT's width, depth and heads: what it should cost
THEIRS = {"timm": False, "timm, compiled": True}
# what is measured side by side, and kept before the next: compilers take minutes, and each form holds a step's memory
STAGES = (
    ("ours", "ours, kernels", PLAIN, "timm"),
    ("ours, loss", "ours, kernels, loss", f"{PLAIN}, loss", "timm, compiled"),
    ("ours, graph", "ours, kernels, graph", f"{PLAIN}, graph"),
    ("ours, layers", "ours, step"),
)


@contextmanager
def kernels(on: bool) -> Iterator[None]:
    """Whether impl "auto" takes the kernels."""
    before, choose.KERNELS_ARE_MEASURED = choose.KERNELS_ARE_MEASURED, on
    try:
        yield
    finally:
        choose.KERNELS_ARE_MEASURED = before


def knobs(name: str, small: bool) -> dict:
    """Both ViTs' and both ConViTs' common ones."""
    kind, size = name.split("_")
    width, heads = {"small": (384, 6), "base": (768, 12)}[size] if kind == "vit" else WIDTHS[size]
    shape = {"img_size": 32, "depth": 2, "num_classes": 10} if small else {"img_size": 224, "depth": 12}
    return {"embed_dim": 4 * heads if small else width, "num_heads": heads, **shape}


def models(name: str, small: bool) -> tuple[Model, Callable[[], torch.nn.Module]]:
    """(ours, what makes timm's) of one shape; timm need not be installed for ours."""
    own, local = knobs(name, small), 1 if small else 10
    if name.startswith("vit"):
        return blocks.vit(**own), lambda: import_module("timm.models.vision_transformer").VisionTransformer(**own)
    per_head = {**own, "embed_dim": own["embed_dim"] // own["num_heads"]}  # timm's convit multiplies by the heads
    ours = blocks.convit(**own, local_up_to_layer=local)
    return ours, lambda: import_module("timm.models.convit").ConVit(**per_head, local_up_to_layer=local)


def batch_of(name: str, size: int, small: bool, device: str) -> dict[str, Tensor]:
    pixels, classes = (32, 10) if small else (224, 1000)
    images = torch.randn(size, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    return {"images": images.to(device), "labels": (torch.arange(size) % classes).to(device)}


def our_step(
    model: Model, params: tree.Tree | None, batch: dict, precision: str, on: bool, compile: bool | str
) -> Callable:
    """One call is one pure step on the donated state; returns its loss."""
    objective, optimizer = Supervised(model), adamw(LR, weight_decay=WEIGHT_DECAY)
    state = init_state(objective, optimizer, key(0, batch["images"].device), params=params)
    step = make_step(objective, optimizer, precision=precision, donate=True, compile=compile)

    def call() -> Tensor:
        nonlocal state
        with kernels(on):
            state, metrics = step(state, batch)
        return metrics["loss"]

    return call


def makers(name: str, batch: dict, precision: str, small: bool) -> dict[str, Callable[[], Callable[[], Tensor]]]:
    """Each contestant, to be built when its turn comes; all begin with the same weights."""
    model, make_theirs = models(name, small)
    params = model.init(key(0))
    weights = blocks.to_timm(model, params)

    def timm_step(compiled: bool) -> Callable[[], Tensor]:
        module = make_theirs()
        module.load_state_dict(deepcopy(weights))
        module = module.to(batch["images"].device)
        step = import_module("step")  # bench/step.py: a script's own folder is on its path
        return step.theirs(torch.compile(module) if compiled else module, batch, precision)

    own = {n: lambda how=how: our_step(model, params, batch, precision, *how) for n, how in OURS.items()}
    if name.startswith("convit"):
        plain = blocks.vit(**knobs(name, small), qkv_bias=False)
        for form in ("ours", "ours, loss", "ours, graph"):
            own[form.replace("ours", PLAIN)] = lambda how=OURS[form]: our_step(plain, None, batch, precision, *how)
    return own | {n: lambda compiled=compiled: timm_step(compiled) for n, compiled in THEIRS.items()}


def flops(name: str, small: bool) -> float:
    """Matmul FLOP of a training step's one image: three forward passes; position attention is left out."""
    model, _ = models(name, small)
    width, depth = model.trunk.embed_dim, len(model.trunk.blocks)
    side, classes = (2, 10) if small else (14, 1000)
    tokens = side * side + (name.startswith("vit"))
    layer = 24 * tokens * width**2 + 4 * tokens**2 * width
    return 3.0 * (depth * layer + 2 * side * side * 16 * 16 * 3 * width + 2 * width * classes)
