"""iBOT against the paper's equations, patch by patch."""

import pytest
import torch

from blocks import DinoHead, key, tree
from blocks.layers.heads import ProjectionMlp
from blocks.objectives.dino import DINO
from blocks.objectives.ibot import draws_of, masked_first
from blocks.objectives.masking import BlockMasks
from blocks.random import fold_in
from blocks.trunks.distilled import distilled
from tests.objectives.masked import MASKS, convit_model, dino_head, ibot, look, mask_of, vit_model
from tests.objectives.views import batch_of, gradient, same, start

OBJECTIVES = {
    "vit": lambda **options: ibot(vit_model(dino_head()), **options),
    "convit": lambda **options: ibot(convit_model(dino_head()), **options),
    "vit, mean, two heads": lambda **o: ibot(vit_model(dino_head(), global_pool="avg"), patch_head=dino_head(7), **o),
    "distilled": lambda **options: ibot(distilled(vit_model(dino_head())), **options),
}
every = pytest.mark.parametrize("name", OBJECTIVES)


def begin(name="vit", **options):
    """Objective, params, and a memory with another teacher and centres that are not zero."""
    objective = OBJECTIVES[name](**options)
    params, memory = start(objective)
    centres = {n: torch.linspace(-1, 1, len(memory[n]), dtype=torch.float64) for n in ("centre", "patch_centre")}
    params["mask_token"] = torch.linspace(-1, 1, 8, dtype=torch.float64).view(1, 1, 8)
    return objective, params, {**memory, "teacher": start(objective, 9)[0], **centres}


def slow_loss(objective, params, memory, batch, a_key):
    """Equations 2 and 3, pair by pair, image by image, patch by patch: (class loss, patch loss)."""
    crops = [*batch["crops.0"].unbind(1), *batch["crops.1"].unbind(1)]
    cls_terms, patch_terms = [], []
    for sample in range(len(batch["index"])):
        masks = [mask_of(objective, sample, v, a_key) for v in range(2)] + [None] * (len(crops) - 2)
        students = [look(objective, params, crop[sample], m) for crop, m in zip(crops, masks, strict=True)]
        with torch.no_grad():
            teachers = [look(objective, memory["teacher"], crop[sample]) for crop in crops[:2]]
        for a, (says, says_of_patches, _) in enumerate(teachers):
            code = ((says - memory["centre"]) / 0.2).softmax(-1)  # the schedules' values at step 0
            for v, (z, *_) in enumerate(students):
                if v != a:
                    cls_terms.append(-(code * (z / 0.1).log_softmax(-1)).sum())
            codes = ((says_of_patches - memory["patch_centre"]) / 0.3).softmax(-1)
            losses = [-(codes[i] * (students[a][1][i] / 0.1).log_softmax(-1)).sum() for i in range(16) if masks[a][i]]
            patch_terms.append(sum(losses) / max(len(losses), 1))
    return sum(cls_terms) / len(cls_terms), sum(patch_terms) / len(patch_terms)


@every
def test_it_equals_the_equations_patch_by_patch_with_all_gradients(name):
    objective, params, memory = begin(name, patch_weight=0.7)
    batch = batch_of(3, small=1)
    masked = [int(mask_of(objective, s, v, key(5)).sum()) for s in range(3) for v in range(2)]
    assert min(masked) == 0 < max(masked)
    loss, _, metrics, grads = gradient(objective, params, memory, batch, key(5))
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    cls_loss, patch_loss = slow_loss(objective, leaves, memory, batch, key(5))
    torch.testing.assert_close(metrics["cls_loss"], cls_loss.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(metrics["patch_loss"], patch_loss.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss, (cls_loss + 0.7 * patch_loss).detach(), rtol=1e-12, atol=1e-12)
    flat = tree.flatten(leaves)
    expected = torch.autograd.grad(
        cls_loss + 0.7 * patch_loss, list(flat.values()), allow_unused=True, materialize_grads=True
    )
    for leaf, grad in zip(flat, expected, strict=True):
        torch.testing.assert_close(grads[leaf], grad, rtol=1e-9, atol=1e-11, msg=lambda m, n=leaf: f"{n}: {m}")
    still = {n for n, g in grads.items() if not g.any()}
    assert all(n.endswith("pos_proj.bias") or n.startswith("head_dist") for n in still)  # cancels; has no part in it


@every
def test_teacher_and_both_centres_move_as_the_paper_says(name):
    objective, params, memory = begin(name)
    batch = batch_of(3, small=1)
    before, updated = tree.clone(memory), start(objective, 4)[0]
    _, noted, _, _ = gradient(objective, params, memory, batch, key(5))
    looks = [look(objective, memory["teacher"], crop) for crop in batch["crops.0"].flatten(0, 1)]
    after, _ = objective.settle_(updated, noted)
    for centre, logits in zip(("centre", "patch_centre"), list(zip(*looks, strict=True))[:2], strict=True):
        mean = torch.stack(logits).flatten(0, -2).mean(0)  # of all patches, masked or not
        torch.testing.assert_close(after[centre], 0.9 * before[centre] + 0.1 * mean, rtol=1e-12, atol=1e-12)
    expected = tree.map(lambda old, new: 0.8 * old + 0.2 * new, before["teacher"], updated)
    for leaf, value in tree.flatten(expected).items():
        torch.testing.assert_close(tree.flatten(after["teacher"])[leaf], value)


def test_a_skipped_update_changes_no_bit_of_the_memory():
    objective, params, memory = begin()
    before = tree.clone(memory)
    _, noted, _, _ = gradient(objective, params, memory, batch_of(3), key(5))
    after, _ = objective.settle_(start(objective, 4)[0], noted, torch.tensor(True))
    assert same(after, before)


def test_without_patches_it_is_dino_on_masked_crops_and_without_masks_dino():
    """Hardly a mask comes of a ratio of zero: then only the sum's second part is left out."""
    objective, params, memory = begin(masks=BlockMasks(ratio=(0.0, 0.0)))
    batch = batch_of(3, small=1)
    loss, _, metrics, _ = gradient(objective, params, memory, batch, key(5))
    names = {"momentum", "teacher_temp"}
    dino = DINO(objective.model, **{name: getattr(objective, name) for name in names})
    expected, _, _, _ = gradient(dino, params, memory, batch, key(5))
    torch.testing.assert_close(loss, expected)
    assert metrics["patch_loss"] == 0


def test_the_centre_is_dino_s():
    objective, params, memory = begin()
    batch = batch_of(3)
    notes = [gradient(o, params, memory, batch, key(5))[1]["notes"] for o in (objective, DINO(objective.model))]
    torch.testing.assert_close(notes[0]["centre"], notes[1]["centre"])


def test_masks_follow_the_samples_and_views_and_not_the_process():
    objective, params, memory = begin()
    whole = batch_of(4)
    shares = [{n: t[i : i + 2] for n, t in whole.items()} for i in (0, 2)]
    losses = [gradient(objective, params, memory, b, key(1))[0] for b in (whole, *shares)]
    torch.testing.assert_close(losses[0], (losses[1] + losses[2]) / 2)
    crops = torch.zeros(40, 2, 3, 8, 8)
    masks = objective._masked(crops, draws_of(key(1), torch.arange(40))[0])
    assert len(masks.unique(dim=0)) > 30
    assert torch.equal(masks[40 + 7], mask_of(objective, 7, 1, key(1)))


def test_without_a_key_masks_follow_from_the_sample_s_place():
    objective, params, memory = begin()
    losses = [gradient(objective, params, memory, batch_of(3), k)[0] for k in (None, None, key(1))]
    assert losses[0] == losses[1] != losses[2]
    assert objective.draws


def test_with_a_key_the_student_s_masked_crops_drop_parts_too():
    still, dropping = (ibot(vit_model(dino_head(), drop_path_rate=rate)) for rate in (0.0, 0.5))
    params, memory = start(still)
    batch = batch_of(3)
    alone, drawn = (
        [gradient(o, params, memory, batch, k)[2]["patch_loss"] for o in (still, dropping)] for k in (None, key(5))
    )
    assert alone[0] == alone[1]
    assert (drawn[0] - drawn[1]).abs() > 0.01


def test_masked_patches_come_first_and_as_many_as_a_mask_can_have():
    masked = torch.tensor([[False, True, False, True], [False] * 4])
    places, chosen = masked_first(masked, 3)
    assert places.tolist() == [[1, 3, 0], [0, 1, 2]]
    assert chosen.tolist() == [[True, True, False], [False] * 3]
    assert MASKS.most(16) == 9
    drawn = MASKS.draw(fold_in(key(0), torch.arange(300)), (4, 4))
    assert drawn.sum(1).max() <= 9
    assert 0.2 < (drawn.sum(1) == 0).double().mean() < 0.4  # 1 - share


def test_half_precision_is_measured_in_single():
    objective, params, memory = begin()
    batch = batch_of(3, dtype=torch.bfloat16)
    memory = tree.cast(memory, torch.float32)
    loss, noted, metrics, _ = gradient(objective, tree.cast(params, torch.bfloat16), memory, batch, key(1))
    kinds = {value.dtype for value in (loss, metrics["patch_loss"], metrics["feature_std"], *noted["notes"].values())}
    assert kinds == {torch.float32}
    assert loss.isfinite()


def test_what_does_not_fit_is_an_error_where_it_is_made():
    with pytest.raises(ValueError, match="has no bottleneck and logits of its own; use a DinoHead"):
        ibot(vit_model(ProjectionMlp(8, 6, 4)))
    with pytest.raises(ValueError, match=r"patch_head .* has no bottleneck"):
        ibot(vit_model(dino_head()), patch_head=ProjectionMlp(8, 6, 4))
    with pytest.raises(ValueError, match="has batch norms, and iBOT's has none; use a DinoHead with norm=None"):
        ibot(vit_model(dino_head()), patch_head=DinoHead(8, 7, 6, 4, norm="batch"))
    with pytest.raises(ValueError, match=r"ratio \(0.5, 0.1\) is not a range"):
        BlockMasks(ratio=(0.5, 0.1))
    with pytest.raises(ValueError, match="share 0 masks no crop"):
        BlockMasks(share=0)
    with pytest.raises(ValueError, match=r"aspect \(0, 1\) is not a range"):
        BlockMasks(aspect=(0, 1))
