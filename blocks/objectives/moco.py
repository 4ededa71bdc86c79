"""MoCo: tell the other view's key, which a slow teacher made, from a queue of older keys (He et al. 2020)."""

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Params
from blocks.checks import count
from blocks.collective import gather, world
from blocks.notes import Memory, noted
from blocks.objectives.collapse import feature_std
from blocks.objectives.crops import Batch, crops_of, embed, project, unit
from blocks.objectives.moments import note_moments
from blocks.objectives.queue import enqueue_, new_queue
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import sample_keys
from blocks.objectives.teacher import follow_, is_momentum_or_schedule
from blocks.objectives.temperature import is_temperature
from blocks.ops.queue_nce import queue_nce
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule
from blocks.random import bits, fold_in

SHUFFLE = 2**31 - 1  # folded into the key of a batch's permutation: no sample's place in it


@attrs.frozen(eq=False)
class MoCo(SelfSupervised):
    """-log(exp(q k / T) / (exp(q k / T) + sum over the queue of exp(q . / T))): He et al. 2020, equation 1.

    The defaults are v2's (Chen et al. 2020, arXiv:2003.04297).

    The second crop of the first size gives the key k, every other crop a query q; the mean counts. The teacher, whose
    head makes the keys, follows the params by `momentum`, a number or a schedule of the step. Keys of all processes
    enter the queue in the order of the global batch, after the update.

    A head whose batch norm has a `group_size` could tell the key by the group that it shares with its query: there the
    keys' features are shuffled over the global batch, groups made of what lies together then, and put back (section
    3.3). Batch norm over the whole batch needs none of it: query and key have the same company in any order.
    Raises ValueError where the head's width is not dim.
    """

    queue_size: int = attrs.field(default=65_536, validator=count)
    dim: int = attrs.field(default=128, validator=count)
    momentum: float | Schedule = attrs.field(
        default=0.999, converter=number_or_schedule, validator=is_momentum_or_schedule
    )
    temperature: float = attrs.field(default=0.2, validator=is_temperature)

    def __attrs_post_init__(self) -> None:
        width = getattr(self.model.head, "out_features", self.dim)
        if width != self.dim:
            raise ValueError(f"dim {self.dim} is not the head's width {width}; use dim={width}")

    @property
    def shuffles(self) -> bool:
        """Whether the head normalises groups of samples."""
        return getattr(self.model.head, "group_size", None) is not None

    @property
    def draws(self) -> bool:
        """Whether the loss wants keys."""
        return self.model.is_random or self.shuffles

    def remember(self, params: Params) -> Memory:
        """Also "teacher", a copy of the params, and "queue", of random keys."""
        queue = new_queue(self.queue_size, self.dim, tree.leaves(params)[0])
        return {**super().remember(params), "teacher": tree.clone(params), "queue": queue}

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """Metrics: feature_std of the queries, and the mean cosine of query and key, "positive"."""
        queries, images = queries_and_keys(crops_of(batch))
        keys = sample_keys(key, batch) if self.model.is_random else None
        features = embed(self.model, params, queries, keys)
        z, moments = project(self.model.head, params.get("head"), features, separately=True)
        q, k = unit(z), self.keys(memory["teacher"], images, key)
        loss = queue_nce(q.flatten(0, 1), k.repeat(len(q), 1), memory["queue"]["keys"], self.temperature).mean()
        metrics = {"feature_std": feature_std(q), "positive": (q.detach() * k).sum(-1).mean()}
        return Outcome(loss, noted(note_moments(memory, head=moments), keys=k), metrics, features[0].detach())

    @torch.no_grad()
    def keys(self, teacher: Params, images: Tensor, key: Tensor | None) -> Tensor:
        """The teacher's embeddings of length 1 of images [b, 1, 3, H, W]: [b, E]; shuffled only with a key."""
        teacher = tree.cast(teacher, images.dtype)
        features = embed(self.model, teacher, [images], None)
        if key is None or not self.shuffles:
            return unit(project(self.model.head, teacher.get("head"), features)[0][0])
        order, features = permutation(key, features)
        z, _ = project(self.model.head, teacher["head"], mine(features[:, order]))
        return unit(mine(gather(z, 1)[:, order.argsort()])[0])

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """Move the teacher and enqueue the keys; {"teacher_momentum"} where that is scheduled."""
        enqueue_(memory["queue"], gather(notes["keys"]), skip)
        return follow_(memory, params, self.momentum, skip)


def queries_and_keys(groups: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """(crops by size without one [b, V, 3, H, W], that one: the second of the first size, [b, 1, 3, H, W])."""
    first, *small = groups
    if first.shape[1] < 2:
        raise ValueError(f"crops.0 has {first.shape[1]} view, and MoCo's keys need a second one; see MultiCrop")
    return [torch.cat((first[:, :1], first[:, 2:]), 1), *small], first[:, 1:2]


def permutation(key: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """(an order of the global batch's samples [B], features of all processes, [1, b, D] -> [1, B, D])."""
    everyone = gather(features, 1)
    return bits(fold_in(key, SHUFFLE), everyone.shape[1:2]).argsort(stable=True), everyone


def mine(everyone: Tensor) -> Tensor:
    """This process's share along axis 1."""
    rank, count = world()
    return everyone.chunk(count, 1)[rank]
