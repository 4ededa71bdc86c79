"""MAE against the paper's description, pixel by pixel."""

import pytest
import torch

from blocks import convit, key, tree, vit
from blocks.objectives.mae import MAE
from blocks.objectives.patches import patchify
from blocks.random import fold_in, normal, split, uniform
from blocks.trunks.distilled import distilled
from blocks.trunks.mae_decoder import mae_decoder

TINY = {"img_size": 16, "patch_size": 4, "num_classes": 0, "embed_dim": 12, "num_heads": 3, "depth": 2}
SMALL = {"embed_dim": 8, "depth": 1, "num_heads": 2}
MODELS = {
    "vit": lambda **knobs: vit(**TINY | knobs, pos_embed="sincos"),
    "convit": lambda **knobs: convit(**TINY | knobs, local_up_to_layer=1),
    "distilled": lambda **knobs: distilled(vit(**TINY | knobs)),
    "vit, mean": lambda **knobs: vit(**TINY | knobs, global_pool="avg", fc_norm=False),
}
every_model = pytest.mark.parametrize("name", MODELS)


def start(name="vit", knobs=None, **options):
    model = MODELS[name](**knobs or {})
    objective = MAE(model, mae_decoder(model, **SMALL), **options)
    params, memory = objective.init(key(0))
    return objective, tree.map(lambda p: 3 * p.double(), params), memory


def batch_of(size=4, views=1, **others):
    crops = {"crops.0": normal(key(1), (size, views, 3, 16, 16), torch.float64), **others}
    return {**crops, "labels": torch.arange(size) % 5, "index": torch.arange(size)}


def value_and_grads(function, params):
    leaves = tree.map(lambda p: p.detach().clone().requires_grad_(), params)
    flat = tree.flatten(leaves)
    loss = function(leaves)
    grads = torch.autograd.grad(loss, list(flat.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), dict(zip(flat, grads, strict=True))


def slow_loss(objective, params, batch, a_key, kept=4):
    """The mean over images of the mean over masked patches of the mean over pixels, one at a time."""
    errors = []
    for image, index in zip(batch["crops.0"][:, 0], batch["index"], strict=True):
        mask_key = split(fold_in(fold_in(a_key, int(index)), 0), 3)[0]
        keep = uniform(mask_key, (16,)).argsort()[:kept]  # in the order of their numbers, as in the paper
        trunk, patches = objective.model.trunk, objective.model.trunk.embed(params, image[None])
        tokens = trunk.encode(params, patches, grid=(4, 4), keep=keep[None])
        guess = objective.decoder(params["decoder"], tokens, grid=(4, 4), keep=keep[None])[0]
        for place in set(range(16)) - set(keep.tolist()):
            y, x = divmod(place, 4)
            pixels = [image[c, 4 * y + p, 4 * x + q] for p in range(4) for q in range(4) for c in range(3)]
            target = torch.stack(pixels)
            if objective.norm_pix:
                mean = target.sum() / 48
                variance = ((target - mean) ** 2).sum() / 47
                target = (target - mean) / (variance + 1e-6).sqrt()
            errors.append(((guess[place] - target) ** 2).sum() / 48)
    return sum(errors) / len(errors)


@every_model
@pytest.mark.parametrize("norm_pix", [True, False])
def test_it_equals_the_paper_pixel_by_pixel_with_all_gradients(name, norm_pix):
    objective, params, memory = start(name, norm_pix=norm_pix)
    batch = batch_of(2)
    ours = value_and_grads(lambda p: objective.loss(p, memory, batch, key(5))[0], params)
    theirs = value_and_grads(lambda p: slow_loss(objective, p, batch, key(5)), params)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-12, atol=1e-12)
    for leaf, grad in ours[1].items():
        torch.testing.assert_close(grad, theirs[1][leaf], rtol=1e-9, atol=1e-11, msg=lambda m, n=leaf: f"{n}: {m}")


@every_model
def test_every_param_of_encoder_and_decoder_learns(name):
    objective, params, memory = start(name)
    _, grads = value_and_grads(lambda p: objective.loss(p, memory, batch_of(), key(5))[0], params)
    still = {n for n, g in grads.items() if not g.any()}
    assert all(n.endswith("pos_proj.bias") for n in still)  # cancels in the softmax


def test_a_patch_s_pixels_lie_row_by_row_with_channels_side_by_side():
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    patches = patchify(images, (2, 3))
    assert patches.shape == (2, 6, 12)
    expected = [images[1, c, 2 + p, 4 + q] for p in (0, 1) for q in (0, 1) for c in range(3)]
    assert torch.equal(patches[1, 5], torch.stack(expected))


def test_a_perfect_guess_costs_nothing_and_seen_patches_never_count():
    class Knowing:
        """A decoder that guesses the masked patches and is wrong on all others."""

        def init(self, key):
            return {}

        def __call__(self, params, x, *, grid, keep, key=None):
            target = MAE.target(objective, batch["crops.0"][:, 0], grid)
            return target.scatter_add(1, keep[..., None].expand(-1, -1, 48), torch.ones(4, 4, 48, dtype=target.dtype))

    batch = batch_of()
    objective = MAE(MODELS["vit"](), Knowing())
    params = tree.cast(objective.model.init(key(0)), torch.float64) | {"decoder": {}}
    assert objective.loss(params, {}, batch, key(1))[0] == 0


def test_the_mask_ratio_says_how_many_patches_the_encoder_sees():
    seen = []
    for ratio in (0.75, 0.6, 0.5):
        objective, params, memory = start(mask_ratio=ratio)
        found = objective.outcome(params, memory, batch_of(), key(5)).loss
        kept = {0.75: 4, 0.6: 6, 0.5: 8}[ratio]
        torch.testing.assert_close(found, slow_loss(objective, params, batch_of(), key(5), kept))
        seen.append(float(found))
    assert len(set(seen)) == 3


def test_of_a_crop_that_is_not_square_the_same_share_is_kept():
    seen = []

    class Seeing:
        """A decoder that tells what it is given."""

        def init(self, key):
            return {}

        def __call__(self, params, x, *, grid, keep, key=None):
            seen.append((grid, keep.shape[1]))
            return x.new_zeros(len(x), grid[0] * grid[1], 48)

    objective = MAE(MODELS["vit"](), Seeing(), mask_ratio=0.5)
    params, memory = objective.init(key(0))
    for size in ((8, 12), (12, 8)):
        objective.loss(params, memory, {**batch_of(2), "crops.0": torch.zeros(2, 1, 3, *size)}, None)
    assert seen == [((2, 3), 3), ((3, 2), 3)]


def test_views_are_images_of_their_own_with_masks_of_their_own():
    objective, params, memory = start()
    batch = batch_of(2, views=2)
    twice = {**batch, "crops.0": batch["crops.0"][:, :1].expand(-1, 2, -1, -1, -1)}
    one = {**batch, "crops.0": batch["crops.0"][:, :1]}
    losses = [objective.loss(params, memory, b, key(5))[0] for b in (batch, twice, one)]
    assert len(set(map(float, losses))) == 3
    outcomes = [objective.outcome(params, memory, b, key(5)) for b in (batch, twice, one)]
    for outcome in outcomes:  # views apart in memory may be summed in another order
        torch.testing.assert_close(outcome.features, outcomes[0].features, rtol=0, atol=1e-12)
    assert outcomes[0].features.shape == (2, 12)


def test_crops_of_other_sizes_count_as_much_as_the_first():
    objective, params, memory = start()
    small = normal(key(2), (2, 2, 3, 8, 12), torch.float64)
    both = objective.loss(params, memory, batch_of(2, **{"crops.1": small}), key(5))[0]
    keys = fold_in(key(5), torch.arange(2))
    parts = [batch_of(2)["crops.0"][:, 0], *small.unbind(1)]
    errors = [objective._errors(params, p, fold_in(keys, v), drops=False)[0] for v, p in enumerate(parts)]
    torch.testing.assert_close(both, torch.cat(errors).mean())


def test_shares_of_a_batch_give_the_whole_one_s_loss_and_gradient():
    objective, params, memory = start("convit", {"drop_path_rate": 0.5, "proj_drop_rate": 0.2})
    whole = batch_of(4, 2)
    shares = [{n: t[i : i + 2] for n, t in whole.items()} for i in (0, 2)]
    values = [value_and_grads(lambda p, b=b: objective.loss(p, memory, b, key(1))[0], params) for b in (whole, *shares)]
    torch.testing.assert_close(values[0][0], (values[1][0] + values[2][0]) / 2)
    for leaf, grad in values[0][1].items():
        torch.testing.assert_close(grad, (values[1][1][leaf] + values[2][1][leaf]) / 2)


def test_without_a_key_masks_follow_from_the_sample_s_place_and_nothing_is_dropped():
    objective, params, memory = start("vit", {"drop_path_rate": 0.9, "proj_drop_rate": 0.5})
    losses = [objective.loss(params, memory, batch_of(), k)[0] for k in (None, None, key(1), key(2))]
    assert losses[0] == losses[1] == start()[0].loss(params, memory, batch_of(), None)[0]
    assert len(set(map(float, losses))) == 3
    assert objective.draws


def test_the_decoder_drops_with_a_key_alone():
    model = MODELS["vit"]()
    still, dropping = (MAE(model, mae_decoder(model, **SMALL | {"depth": 2}, drop_path_rate=r)) for r in (0.0, 0.9))
    params = tree.map(lambda p: 3 * p.double(), still.init(key(0))[0])
    for a_key in (None, key(1)):
        losses = [objective.loss(params, {}, batch_of(), a_key)[0] for objective in (still, dropping)]
        assert (losses[0] == losses[1]) == (a_key is None)


def test_half_precision_is_measured_in_single():
    objective, params, memory = start()
    batch = batch_of()
    batch["crops.0"] = batch["crops.0"].bfloat16()
    loss, _, metrics = objective.loss(tree.cast(params, torch.bfloat16), memory, batch, key(1))
    assert loss.dtype == metrics["feature_std"].dtype == torch.float32
    assert loss.item() == pytest.approx(objective.loss(params, memory, batch_of(), key(1))[0].item(), rel=0.05)


def test_what_cannot_be_trained_is_an_error_where_it_is_made():
    with pytest.raises(ValueError, match="the model's Linear would not be trained; use num_classes=0"):
        MAE(vit(**TINY | {"num_classes": 5}), mae_decoder(vit(**TINY)))
    mean = vit(**TINY, global_pool="avg")
    with pytest.raises(ValueError, match=r"model's fc_norm would not be trained.* with fc_norm=False"):
        MAE(mean, mae_decoder(mean))
    for ratio in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match=f"mask_ratio {ratio} is not between 0 and 1"):
            start(mask_ratio=ratio)
    objective, params, memory = start(mask_ratio=0.95)
    with pytest.raises(ValueError, match="0 patches of 16 cannot be kept"):
        objective.loss(params, memory, batch_of(), None)
