"""VISSL's models, from its checkpoints."""

import pytest
import torch

import blocks
from blocks import key, tree
from blocks.interop.checkpoints import load_weights
from blocks.interop.vissl import folded, with_eps
from tests.interop.timms import CONVIT, VIT, assert_same, images, saved, timms
from tests.interop.vissl_reference import vissl_convit, vissl_names


def vissl_file(leaves, head=None, which="base_model"):
    trunk = {f"base_model.{n}" if which == "feature extractor" else n: t for n, t in leaves.items()}
    heads = head or {"0.clf.0.weight": torch.randn(5, 16), "0.clf.0.bias": torch.randn(5)}
    model = {"model": {"trunk": trunk, "heads": heads}, "meta": {"trunk": {}, "heads": []}}
    place = which if which == "ema_model" else "base_model"
    return {"classy_state_dict": {place: model, "num_updates": 3}, "type": "consolidated", "loss": {}, "iteration": 3}


def vissl_head(leaves):
    return {"head.weight": leaves["0.clf.0.weight"], "head.bias": leaves["0.clf.0.bias"]}


@pytest.mark.parametrize("which", ["base_model", "feature extractor", "ema_model"])
def test_a_convit_of_vissl_gives_vissl_s_features(which, tmp_path):
    """Against the formulas of its trunk with ten times three positional features, at its eps."""
    leaves = vissl_names(embed_dim=16, num_heads=4, depth=2, local=1, locality_dim=10)
    path = saved(vissl_file(leaves, which=which), tmp_path / "model_final_checkpoint_phase99.torch")
    model = blocks.convit(**CONVIT)
    params, report = load_weights(model, path, which="ema" if which == "ema_model" else "params")
    expected = vissl_convit(leaves, images(), num_heads=4, local=1, locality_dim=10)
    exact = with_eps(model)
    torch.testing.assert_close(exact.features(params, images()), expected, rtol=0, atol=1e-5)
    assert (model.features(params, images()) - expected).abs().max() > 1e-5  # eps alone
    assert report.layout == "VISSL"
    assert report.notes[0].startswith("its norms had eps 1e-05, the model's have 1e-06")
    assert load_weights(exact, path, which="ema" if which == "ema_model" else "params")[1].notes == ()
    assert params["blocks"]["0"]["attn"]["gating_param"].shape == (4,)
    assert params["blocks"]["0"]["attn"]["pos_proj"]["weight"].shape == (4, 3)


def test_the_local_start_of_vissl_folds_to_ours():
    """Rows of -1, 2 dy and 2 dx, each ten times over."""
    weight = blocks.GPSA(18, 9).init(key(0))["pos_proj"]["weight"]
    assert torch.equal(folded(weight.repeat_interleave(10, dim=1)), weight)
    with pytest.raises(ValueError, match="pos_proj has 20 features"):
        folded(torch.zeros(4, 20))


def test_a_vit_of_vissl_gives_timm_s_logits():
    theirs = timms(qkv_bias=False)
    trunk = {n: t for n, t in theirs.state_dict().items() if not n.startswith("head.")}
    head = {"0.layers.head.weight": theirs.head.weight.data, "0.layers.head.bias": theirs.head.bias.data}
    model = blocks.vit(**VIT, qkv_bias=False)
    params, report = load_weights(model, vissl_file(trunk, head))
    assert torch.allclose(model(params, images()), theirs(images()), atol=1e-5)
    assert report.notes == ()  # its later ViT has timm's eps
    flat = {f"trunk.base_model.{n}": t for n, t in trunk.items()} | {f"heads.{n}": t for n, t in head.items()}
    assert_same(load_weights(model, {"classy_state_dict": flat})[0], tree.flatten(params))
    old = {"cls_token": "class_token", "pos_embed": "pos_embedding"}
    _, report = load_weights(model, vissl_file({old.get(n, n): t for n, t in trunk.items()}, head))
    assert "eps 1e-05" in report.notes[0]


HEADS = {
    "tanh": (
        blocks.TanhMlpHead(12, 7, 5),
        {"layers.pre_logits": "fc1", "layers.head": "fc2"},
    ),
    "MLP": (blocks.ProjectionMlp(12, 7, 5, 3), {"clf.0": "layers.0", "clf.2": "layers.1", "clf.4": "layers.2"}),
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads_of_vissl_become_ours(kind):
    head, names = HEADS[kind]
    ours = tree.flatten(head.init(key(1)))
    theirs = {f"0.{t}.{leaf}": ours[f"{o}.{leaf}"] for t, o in names.items() for leaf in ("weight", "bias")}
    trunk = {n: t for n, t in timms().state_dict().items() if not n.startswith("head.")}
    params, _ = load_weights(blocks.vit(**VIT, head=head), vissl_file(trunk, theirs))
    assert_same(params["head"], ours)


@pytest.mark.parametrize(
    "extra",
    [
        {"0.clf.1.weight": torch.ones(4), "0.clf.1.bias": torch.ones(4), "0.clf.1.running_mean": torch.ones(4)},
        {"0.channel_bn.weight": torch.ones(12), "0.channel_bn.bias": torch.ones(12)},
        {"1.clf.0.weight": torch.ones(5, 12)},
    ],
)
def test_a_head_of_vissl_without_a_twin_here_is_named_and_can_be_left_out(extra):
    trunk = {n: t for n, t in timms().state_dict().items() if not n.startswith("head.")}
    linear = {"0.clf.0.weight": torch.randn(5, 12), "0.clf.0.bias": torch.randn(5)}
    file = vissl_file(trunk, linear | extra)
    with pytest.raises(ValueError, match=r"unexpected: heads\.(0|\{0\.\.1\})\.clf\.0\.weight") as error:
        load_weights(blocks.vit(**VIT), file)
    assert 'head="new"' in str(error.value)
    _, report = load_weights(blocks.vit(**VIT), file, head="new", key=key(0))
    assert report.left == tuple(f"heads.{n}" for n in linear | extra)


@pytest.mark.parametrize("prefix", ["moco_encoder.", "momentum_teacher.module."])
def test_the_teacher_in_a_loss_of_vissl_can_be_taken(prefix):
    weights = timms().state_dict()
    trunk = {n: t for n, t in weights.items() if not n.startswith("head.")}
    head = {"heads.0.clf.0.weight": weights["head.weight"], "heads.0.clf.0.bias": weights["head.bias"]}
    loss = {prefix + n: t for n, t in {**{f"trunk.{n}": t for n, t in trunk.items()}, **head}.items()}
    file = vissl_file({}) | {"loss": loss | {"queue": torch.zeros(3), "queue_ptr": torch.zeros(1)}}
    assert_same(load_weights(blocks.vit(**VIT), file, which="teacher")[0], dict(weights))
    for empty in (vissl_file({}), vissl_file({}) | {"loss": None}):
        with pytest.raises(ValueError, match="has no momentum_teacher or moco_encoder"):
            load_weights(blocks.vit(**VIT), empty, which="teacher")


def test_an_average_that_a_file_of_vissl_lacks_is_not_made_up():
    with pytest.raises(ValueError, match="which='ema': this checkpoint of VISSL has no 'ema_model'"):
        load_weights(blocks.vit(**VIT), vissl_file({}), which="ema")


def test_with_eps_changes_every_norm_and_nothing_else():
    model = blocks.vit(**VIT | {"global_pool": "avg"})
    changed = with_eps(model, 0.25)
    norms = [changed.pool.fc_norm, *(n for layer in changed.trunk.blocks for n in (layer.norm1, layer.norm2))]
    assert [norm.eps for norm in norms] == [0.25] * 5
    assert with_eps(changed, 1e-6) == model
