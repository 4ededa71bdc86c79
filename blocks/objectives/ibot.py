"""iBOT (Zhou et al. 2022): DINO, and for masked patches of the large crops what the teacher says of them unmasked."""

from typing import NamedTuple, Protocol, cast

import attrs
import torch
from torch import Tensor

from blocks import random, tree
from blocks.block import Params
from blocks.checks import not_negative
from blocks.notes import Memory, noted
from blocks.objectives.centring import new_centre, settle_centre_, taught_codes
from blocks.objectives.collapse import feature_std
from blocks.objectives.crops import Batch, crops_of, embed, view_keys
from blocks.objectives.dino import DINO, num_logits, teaching
from blocks.objectives.masking import BlockMasks
from blocks.objectives.patches import PatchModel
from blocks.objectives.self_supervised import Outcome
from blocks.objectives.supervised import at_least_float32, sample_index
from blocks.objectives.teacher import at, scheduled
from blocks.objectives.temperature import is_temperature_or_schedule
from blocks.ops.cross_view import cross_view, soft_cross_entropy
from blocks.optim.own_schedule import number_or_schedule
from blocks.optim.schedule import Schedule
from blocks.random import fold_in, split


class SplitHead(Protocol):
    """A head [..., D] -> [..., K] in two moves, the second linear: `blocks.layers.dino_head.DinoHead`."""

    def init(self, key: Tensor) -> Params:
        """Fresh params."""

    def __call__(self, params: Params, x: Tensor, *, key: Tensor | None = None) -> Tensor:
        """Both."""

    def bottleneck(self, params: Params, x: Tensor) -> Tensor:
        """[..., D] -> [..., E]."""

    def logits(self, params: Params, z: Tensor) -> Tensor:
        """[..., E] -> [..., K], without bias."""


def is_split(_: object, attribute: attrs.Attribute, head: object) -> None:
    """attrs validator of a head in two moves, or none; it knows of no batch norm, whose moments nobody would keep."""
    if head is not None and not (hasattr(head, "bottleneck") and hasattr(head, "logits")):
        raise ValueError(f"{attribute.name} {head} has no bottleneck and logits of its own; use a DinoHead")
    if getattr(head, "norms", ()):
        raise ValueError(f"{attribute.name} {head} has batch norms, and iBOT's has none; use a DinoHead with norm=None")


@attrs.frozen(eq=False)
class IBOT(DINO):
    """DINO's loss of class tokens plus `patch_weight` times that of masked patches (section 3.2, equations 2 and 3).

    The student's crops of the first size are masked, the teacher's are not. Patches have a centre and a temperature of
    their own (published: linear(.04, .07) over 30 epochs), and the model's head, a `DinoHead`, or with `patch_head` one
    of their own; by centring="sinkhorn" the masked ones share the places among them. The mask token's params lie at
    "mask_token", that head's at "patch_head". The outcome's features are of the first crop as the student sees it.
    Further metrics: cls_loss, patch_loss.
    """

    patch_head: SplitHead | None = attrs.field(default=None, validator=is_split)
    patch_temp: float | Schedule = attrs.field(
        default=0.04, converter=number_or_schedule, validator=is_temperature_or_schedule
    )
    patch_weight: float = attrs.field(default=1.0, validator=not_negative)
    masks: BlockMasks = attrs.field(factory=BlockMasks)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        is_split(self, attrs.fields(type(self)).model, self.model.head)

    @property
    def draws(self) -> bool:
        return True

    @property
    def _model(self) -> PatchModel:
        return cast(PatchModel, self.model)

    @property
    def _head(self) -> SplitHead:
        return cast(SplitHead, self.model.head)

    @property
    def _patches(self) -> tuple[SplitHead, str]:
        """The patches' head, and the name of its params."""
        return (self._head, "head") if self.patch_head is None else (self.patch_head, "patch_head")

    def fresh(self, key: Tensor) -> Params:
        """The model's params, "mask_token" [1, 1, D] of zeros, and "patch_head" where there is one."""
        width = self._model.trunk.embed_dim
        params = super().fresh(key) | {"mask_token": torch.zeros(1, 1, width, device=key.device)}
        own = {} if self.patch_head is None else {"patch_head": self.patch_head.init(fold_in(key, 3))}
        return params | own

    def remember(self, params: Params) -> Memory:
        """DINO's, and "patch_centre" [K], of zeros, beside a centre."""
        memory = super().remember(params)
        if "centre" in memory:
            memory["patch_centre"] = new_centre(num_logits(self._patches[0]), tree.leaves(params)[0])
        return memory

    def outcome(self, params: Params, memory: Memory, batch: Batch, key: Tensor | None) -> Outcome:
        """The loss of V >= 2 crops, of which the A of crops.0 are masked, and the teacher's; notes its mean logits."""
        groups = crops_of(batch)
        mask_keys, drop_keys = draws_of(key, sample_index(batch))
        masked = self._masked(groups[0], mask_keys)
        places, chosen = masked_first(masked, self.masks.most(masked.shape[1]))
        features, patches = self._student(params, groups, masked, drop_keys)
        taught = self._teacher(memory["teacher"], groups[0], places)
        z = self._head(params["head"], features)
        temperature = at(self.teacher_temp, memory["step"])
        codes = taught_codes(taught.logits, memory.get("centre"), temperature)
        cls_loss = cross_view(z, codes, self.student_temp)
        patch_loss = self._patch_loss(params, memory, tokens_at(patches, places), taught.patch_logits, chosen)
        metrics = teaching(cls_loss, codes) | {"feature_std": feature_std(z[0])} | scheduled(teacher_temp=temperature)
        metrics |= {"cls_loss": cls_loss.detach(), "patch_loss": patch_loss.detach()}
        near, nearness = self.keep_apart(features[: len(taught.logits)])
        if taught.patch_mean is not None:
            centre = taught.logits.flatten(0, 1).mean(0, keepdim=True)
            memory = noted(memory, centre=centre, patch_centre=taught.patch_mean)
        loss = cls_loss + self.patch_weight * patch_loss + near
        return Outcome(loss, memory, metrics | nearness, features[0].detach())

    def carry_(
        self, params: Params, memory: Memory, notes: dict[str, Tensor], skip: Tensor | None
    ) -> dict[str, Tensor]:
        """DINO's, and moves the patches' centre."""
        if "centre" in memory:
            settle_centre_(memory["patch_centre"], notes["patch_centre"], self.centre_momentum, skip)
        return super().carry_(params, memory, notes, skip)

    def _masked(self, crops: Tensor, keys: Tensor) -> Tensor:
        """Masks of crops [b, V, 3, H, W]: bool [V b, N]."""
        own = view_keys(keys, crops.shape[1])
        return self.masks.draw(own, self._model.trunk.grid(crops[:, 0]))

    def _student(
        self, params: Params, groups: list[Tensor], masked: Tensor, keys: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """(features [V, b, D] of all crops, those of the first size masked; their patches' tokens [A b, N, D])."""
        features, patches = self._encode(params, groups[0], keys[0], masked)
        if len(groups) > 1:
            features = torch.cat((features, embed(self.model, params, groups[1:], keys[1])))
        return features, patches

    @torch.no_grad()
    def _teacher(self, teacher: Params, crops: Tensor, places: Tensor) -> "Taught":
        head, name = self._patches
        params = tree.cast(teacher, crops.dtype)
        features, patches = self._encode(params, crops, None)
        logits = at_least_float32(self._head(params["head"], features))
        if self.centring == "mean":
            z = head.bottleneck(params[name], patches)  # [A b, N, E]
            mean = at_least_float32(z).mean((0, 1))[None]  # the last layer is linear: its mean is the mean's
            patch_mean, z = head.logits(tree.cast(teacher[name], mean.dtype), mean), tokens_at(z, places)
        else:  # then only those that may be masked are wanted
            patch_mean, z = None, head.bottleneck(params[name], tokens_at(patches, places))
        return Taught(logits, head.logits(params[name], z), patch_mean)

    def _encode(
        self, params: Params, crops: Tensor, keys: Tensor | None, masked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """crops [b, V, 3, H, W], the mask token where masked [V b, N] -> (features [V, b, D], patches [V b, N, D])."""
        model, views = self._model, crops.shape[1]
        images = crops.transpose(0, 1).flatten(0, 1)
        patches = model.trunk.embed(params, images)
        if masked is not None:
            patches = torch.where(masked[..., None], params["mask_token"], patches)
        own = None if keys is None else view_keys(keys, views)
        tokens = model.trunk.encode(params, patches, grid=model.trunk.grid(images), key=own)
        return model.pooled(params, tokens).unflatten(0, (views, -1)), tokens[:, model.trunk.num_prefix_tokens :]

    def _patch_loss(self, params: Params, memory: Memory, tokens: Tensor, taught: Tensor, chosen: Tensor) -> Tensor:
        """Equation 2: masked patches' tokens [A b, M, D], the teacher's logits [A b, M, K], which count -> []."""
        head, name = self._patches
        guesses = head.logits(params[name], head.bottleneck(params[name], tokens)).flatten(0, 1)
        temperature = at(self.patch_temp, memory["step"])
        codes = taught_codes(taught, memory.get("patch_centre"), temperature, chosen).flatten(0, 1)
        losses = soft_cross_entropy(guesses[None], codes[None], ((0,),), self.student_temp)  # [1, A b M]
        return ((losses.view_as(chosen) * chosen).sum(1) / chosen.sum(1).clamp(min=1)).mean()


class Taught(NamedTuple):  # an attrs object cannot be made in a compiled region
    """What the teacher says: logits [A, b, K] of crops, [A b, M, K] of patches, [1, K'] the mean of all patches'.

    The mean is for a centre, None without.
    """

    logits: Tensor
    patch_logits: Tensor
    patch_mean: Tensor | None


def draws_of(key: Tensor | None, index: Tensor) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """The samples' keys of masks, (of what large crops drop, what small ones do); without a key nothing is dropped."""
    masks, large, small = split(fold_in(random.key(0, index.device) if key is None else key, index), 3).unbind(1)
    return masks, (None, None) if key is None else (large, small)


def masked_first(masked: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """masks bool [B, N] -> (places of the masked patches, then of others, [B, most]; which are masked [B, most])."""
    places = (~masked).long().argsort(dim=1, stable=True)[:, :most]
    return places, masked.gather(1, places)


def tokens_at(tokens: Tensor, places: Tensor) -> Tensor:
    """tokens [B, N, D], int64 [B, M] -> [B, M, D]."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
