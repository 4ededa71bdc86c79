"""SwAV (Caron et al. 2020): crops predict to which prototypes an even assignment gives the other large crops."""

import attrs
import torch
from torch import Tensor

from blocks import tree
from blocks.block import Block, Params
from blocks.checks import above_0, count, count_or_none
from blocks.collective import gather
from blocks.notes import Memory, noted
from blocks.objectives.collapse import feature_std
from blocks.objectives.crops import Batch, crops_of, embed, project, unit
from blocks.objectives.moments import note_moments
from blocks.objectives.prototypes import hardened, is_full, new_queue, normalise_, own_share, usage, with_length_1
from blocks.objectives.queue import enqueue_
from blocks.objectives.self_supervised import Outcome, SelfSupervised
from blocks.objectives.supervised import sample_keys
from blocks.objectives.temperature import is_temperature
from blocks.ops.cross_view import cross_view
from blocks.ops.sinkhorn import sinkhorn
from blocks.random import fold_in

PROTOTYPES = 3  # their place after the model's parts, whose keys are 0 to 2


@attrs.frozen(eq=False)
class SwAV(SelfSupervised):
    """Equations 1 to 3: -sum codes log softmax(scores / temperature), the mean over crops_for_assign and other crops.

    Each of the `prototypes` (`Prototypes` blocks) is a head of its own; the loss is their mean. Their rows have length
    1 at the start and after every step; published, they sleep at first (5,005 steps of 256 images). A queue of
    embeddings (published: 3,840 from epoch 15 on, for 256 images) takes part in the assignment when it is full and
    queue_start steps are over. In the first hard_steps a code is its largest number, as 1. With use_double codes are
    made in float64. Each micro-batch makes its own codes: evenly over what is in it, and in the queue.
    """

    prototypes: tuple[Block, ...] = attrs.field()
    temperature: float = attrs.field(default=0.1, validator=is_temperature)
    epsilon: float = attrs.field(default=0.05, validator=above_0)
    iterations: int = attrs.field(default=3, validator=count)
    crops_for_assign: tuple[int, ...] = attrs.field(default=(0, 1))
    queue_length: int = attrs.field(default=0, validator=count_or_none)
    queue_start: int = attrs.field(default=0, validator=count_or_none)
    use_double: bool = False
    hard_steps: int = attrs.field(default=0, validator=count_or_none)

    @prototypes.validator
    def _some(self, _: attrs.Attribute, value: tuple[Block, ...]) -> None:
        if not isinstance(value, tuple) or not value:
            raise ValueError(f"prototypes {value} are not a tuple of blocks; use (Prototypes(128, 3000),)")

    @crops_for_assign.validator
    def _different(self, _: attrs.Attribute, value: tuple[int, ...]) -> None:
        if not value or len(set(value)) < len(value) or min(value) < 0:
            raise ValueError(f"crops_for_assign {value} are not numbers of different crops; use (0, 1)")

    def fresh(self, key: Tensor) -> Params:
        """The model's params, and each head's prototypes below "prototypes"."""
        own = fold_in(key, PROTOTYPES)
        heads = {str(i): block.init(fold_in(own, i)) for i, block in enumerate(self.prototypes)}
        for head in heads.values():
            normalise_(head["weight"])
        return {**self.model.init(key), "prototypes": heads}

    def remember(self, params: Params) -> Memory:
        """Also, with a queue, "queue": {"keys": [L, A, E], "next": []}."""
        memory, weight = super().remember(params), params["prototypes"]["0"]["weight"]
        queue = new_queue(self.queue_length, len(self.crops_for_assign), weight) if self.queue_length else None
        return memory if queue is None else {**memory, "queue": queue}

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """The loss of V >= 2 crops. Raises ValueError where crops_for_assign are not among them.

        Metrics: feature_std of the embeddings, and `usage` of the prototypes; 1 is the best of each.
        """
        keys = sample_keys(key, batch)
        features = embed(self.model, params, crops_of(batch), keys)
        z, moments = project(self.model.head, params.get("head"), features)
        z = unit(z)
        found = [self.head(block, own, z, memory) for block, own in self.heads(params, z.dtype)]
        metrics = {"feature_std": feature_std(z), **usage([codes for _, codes in found])}
        memory = note_moments(memory, head=moments)
        if self.queue_length:
            memory = noted(memory, embeddings=torch.stack([z[v] for v in self.crops_for_assign], 1))
        return Outcome(torch.stack([loss for loss, _ in found]).mean(), memory, metrics, features[0].detach())

    def heads(self, params: Params, dtype: torch.dtype) -> list[tuple[Block, Params]]:
        """Each head's block and prototypes, these in a type and of length 1, however long they were given."""
        own = [
            tree.map(lambda t: with_length_1(t.to(dtype)), params["prototypes"][str(i)])
            for i in range(len(self.prototypes))
        ]
        return list(zip(self.prototypes, own, strict=True))

    def head(self, block: Block, own: Params, z: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """(the loss [], the codes [A, b, K]) of embeddings [V, b, E] at one head."""
        views = self.crops_for_assign
        if max(views) >= len(z):
            raise ValueError(f"crops_for_assign {views} are not all among the batch's {len(z)} crops")
        scores = block(own, z)  # [V, b, K]
        in_order = views == tuple(range(len(views)))  # then without a copy
        assigned = scores[: len(views)] if in_order else torch.stack([scores[v] for v in views])
        codes = self.codes(block, own, assigned, memory)
        return cross_view(scores, codes, self.temperature, views), codes

    @torch.no_grad()
    def codes(self, block: Block, own: Params, scores: Tensor, memory: Memory) -> Tensor:
        """The even assignment of scores [A, b, K], beside the queue's, over all processes: [A, b, K]."""
        size, dtype, counted = scores.shape[1], scores.dtype, None
        if self.queue_length:
            queue = own_share(memory["queue"]).to(dtype)  # [A, l, E]
            used = is_full(memory["queue"]) & (memory["step"] >= self.queue_start)
            counted = torch.cat((used.expand(queue.shape[1]), torch.ones_like(used).expand(size)))
            scores = torch.cat((block(own, queue), scores), 1)
        scores = scores.double() if self.use_double else scores
        codes = sinkhorn(scores, self.epsilon, self.iterations, counted, bound=1.0)  # they are cosines
        codes = codes[:, -size:].to(dtype)
        return torch.where(memory["step"] < self.hard_steps, hardened(codes), codes) if self.hard_steps else codes

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """Gives prototypes length 1 again; the embeddings of all processes enter the queue, in the global order."""
        for head in params["prototypes"].values():
            normalise_(head["weight"], skip)
        if self.queue_length:
            enqueue_(memory["queue"], gather(notes["embeddings"]), skip)
        return {}
