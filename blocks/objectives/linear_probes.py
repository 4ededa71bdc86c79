"""Linear classifiers on frozen features, several at once: one pass of the trunk serves as many rates as one likes."""

from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.collective import total
from blocks.objectives.crops import Batch, Model
from blocks.objectives.supervised import at_least_float32, labels_of, top1
from blocks.objectives.width import feature_width

HEADS_ALONE = ("*", "!heads.*")  # frozen is all but the heads
EPS = 1e-6  # beside a variance: MAE's linear probe


@attrs.frozen(eq=False)
class LinearProbes:
    """The sum of each head's cross-entropy, so that each learns as if it were alone; the trunk gets no gradient.

    Params are a headless model's, "heads.0" ..., which start at zero, and "features", the mean and deviation [D] that
    features are standardised by: 0 and 1 until `standardised`. Give the step `frozen=HEADS_ALONE`, and each head its
    rate by the optimizer's `lr_scales={"heads.0.*": 0.1, ...}`.
    """

    model: Model
    num_classes: int
    heads: int = 1
    embed_dim: int | None = None  # of the features; the trunk's, where it says so

    def __attrs_post_init__(self) -> None:
        feature_width(self.model, self.embed_dim)
        if self.heads < 1:
            raise ValueError(f"heads {self.heads}: a classifier for each rate; give one rate or more (--lrs 0.1 1)")
        if self.num_classes < 2:
            raise ValueError(f"num_classes {self.num_classes} leaves nothing to tell apart; use 2 or more")
        if getattr(self.model, "head", None) is not None:
            raise ValueError(f"the {type(self.model).__name__} has a head of its own; make it with num_classes=0")

    @property
    def draws(self) -> bool:
        """Features are those of evaluation: nothing is dropped."""
        return False

    def init(self, key: Tensor) -> tuple[Params, dict[str, Any]]:
        """(fresh params, memory {})."""
        return self.with_heads(self.model.init(key)), {}

    def with_heads(self, params: Params) -> Params:
        """A model's params with what is the probes' own, fresh."""
        like, width = tree.leaves(params)[0], feature_width(self.model, self.embed_dim)
        shapes = {"weight": (self.num_classes, width), "bias": (self.num_classes,)}
        heads = {str(k): {name: like.new_zeros(shape) for name, shape in shapes.items()} for k in range(self.heads)}
        return {**params, "features": {"mean": like.new_zeros(width), "std": like.new_ones(width)}, "heads": heads}

    def loss(
        self, params: Params, memory: Any, batch: Batch, key: Tensor | None
    ) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """(sum of the heads' losses [], memory, {"top1_0": [], ...}) of images [b, 3, H, W] and labels int64 [b]."""
        logits, labels = self.logits(params, batch["images"]), labels_of(batch)
        losses = [F.cross_entropy(scores, labels) for scores in logits]
        return torch.stack(losses).sum(), memory, {f"top1_{k}": top1(s, labels) for k, s in enumerate(logits)}

    def logits(self, params: Params, images: Tensor) -> Tensor:
        """images [b, 3, H, W] -> every head's [K, b, C]."""
        with torch.no_grad():
            features = at_least_float32(self.model.features(params, images))
            x = (features - params["features"]["mean"]) / params["features"]["std"]
        own = [params["heads"][str(k)] for k in range(self.heads)]
        return torch.stack([F.linear(x, head["weight"].to(x), head["bias"].to(x)) for head in own])

    def standardised(self, params: Params, values: Tensor) -> Params:
        """The params with mean and deviation of features [n, D], over all processes' shares, which may differ in size.

        It stands in for the batch norm without affine map of MAE's linear probe (He et al. 2022, A.1).
        """
        wide = values.double()
        count = total(torch.tensor(float(len(wide)), device=wide.device))
        mean = total(wide.sum(0)) / count
        std = (total((wide - mean).square().sum(0)) / count + EPS).sqrt()
        like = params["features"]["mean"]
        return {**params, "features": {"mean": mean.to(like), "std": std.to(like)}}

    def classifier(self, params: Params, head: int) -> Params:
        """The params of the model with this head as its "head", a linear one; the standardisation is folded into it.

        Of a distilled model both heads are this one: their mean is the probe of the mean of its tokens.
        """
        own, (mean, std) = params["heads"][str(head)], (params["features"][name] for name in ("mean", "std"))
        weight = own["weight"] / std
        model = {name: node for name, node in params.items() if name not in ("features", "heads")}
        linear = {"weight": weight, "bias": own["bias"] - weight @ mean}
        names = ("head", "head_dist") if hasattr(self.model, "head_dist") else ("head",)
        return {**model, **dict.fromkeys(names, linear)}
