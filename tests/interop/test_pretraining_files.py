"""Checkpoints of published pretraining: trunk, heads and decoder come into our objectives, and compute what they did.

No file of theirs is at hand: each is made here of the modules and by the names of its method's released code.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import blocks
from blocks import key, load_weights, tree
from blocks.interop.layouts import weights_of
from blocks.layers.dino_head import DinoHead
from blocks.layers.published_heads import moco_v2_head, moco_v3_projector, simclr_head, swav_head
from blocks.objectives.dino import DINO
from blocks.objectives.mae import MAE
from blocks.objectives.moco import MoCo
from blocks.objectives.simclr import SimCLR
from blocks.objectives.swav import SwAV
from blocks.trunks.mae_decoder import mae_decoder
from tests.interop.published import HIDDEN, OUT, WIDTH, features, mlp, moco_v3_file, model, named, shaken, trunk
from tests.interop.timms import VIT, assert_same, images, timms


def test_positions_that_are_no_sines_are_not_left_out():
    leaves = mae_leaves()
    leaves["pos_embed"] = leaves["pos_embed"] + 0.01
    with pytest.raises(ValueError, match=r"unexpected: pos_embed \[1, 17, 12\]") as error:
        load_weights(of_mae(), leaves)
    assert "rows first" not in str(error.value)


@pytest.mark.parametrize("has_mlp", [True, False])
def test_moco_s_head_and_queue(has_mlp):
    """Its own encoders are ResNets, whose classifier's place the head takes: "fc"."""
    linear = nn.Linear(WIDTH, OUT)
    head = shaken(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), linear) if has_mlp else linear)
    leaves = {f"module.encoder_q.{n}": t for n, t in trunk().items()} | named("module.encoder_q.fc.", head)
    leaves |= {f"module.encoder_k.{n}": t for n, t in trunk(1).items()} | named("module.encoder_k.fc.", shaken(head, 6))
    leaves |= {"module.queue": torch.randn(OUT, 20), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    own = moco_v2_head(WIDTH, WIDTH, OUT) if has_mlp else blocks.LinearHead(WIDTH, OUT)
    objective = MoCo(model(own), queue_size=20, dim=OUT)
    params, report = load_weights(objective, {"state_dict": leaves})
    prefix = "module.encoder_q.fc."
    head.load_state_dict({n.removeprefix(prefix): t for n, t in leaves.items() if n.startswith(prefix)})
    x = features(objective, params)
    torch.testing.assert_close(objective.model.head(params["head"], x), head(x), rtol=0, atol=1e-5)
    assert (report.layout, report.left) == ("MoCo's names in 'state_dict'", ("queue", "queue_ptr"))
    teacher, report = load_weights(objective.model, {"state_dict": leaves}, which="teacher")
    assert_same({"norm": teacher["norm"]}, {n: t for n, t in trunk(1).items() if n.startswith("norm.")})


class DinosHead(nn.Module):
    def __init__(self, new):
        super().__init__()
        self.mlp = nn.Sequential(*[nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU()])
        self.mlp.append(nn.Linear(HIDDEN, 5))
        norms = nn.utils.parametrizations.weight_norm if new else nn.utils.weight_norm
        self.last_layer = norms(nn.Linear(5, 9, bias=False))

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


def dinos_head(norm, new=False, seed=5):
    head = shaken(DinosHead(new), seed)
    if norm:
        lengths = head.last_layer.parametrizations.weight.original0 if new else head.last_layer.weight_g
        lengths.data.fill_(1)
    return head


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_dino_s_student_and_teacher(norm, new):
    heads = {"student": dinos_head(norm, new), "teacher": dinos_head(norm, new, 6)}
    file = {
        "student": {f"module.backbone.{n}": t for n, t in trunk().items()} | named("module.head.", heads["student"]),
        "teacher": {f"backbone.{n}": t for n, t in trunk(1).items()} | named("head.", heads["teacher"]),
    }
    file |= {"optimizer": {}, "epoch": 3, "dino_loss": {"center": torch.zeros(1, 9)}}
    objective = DINO(model(DinoHead(WIDTH, 9, HIDDEN, 5, norm_last_layer=norm)))
    for which, head in (("params", "student"), ("teacher", "teacher")):
        params, report = load_weights(objective, file, which=which)
        x = features(objective, params)
        torch.testing.assert_close(objective.model.head(params["head"], x), heads[head](x), rtol=0, atol=1e-5)
        assert report.layout == f"DINO's names in {head!r}"
        assert report.left == (("head.last_layer.weight_g",) if norm else ())


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_lengths_that_a_head_of_length_1_would_lose_are_an_error():
    file = {"student": {f"backbone.{n}": t for n, t in trunk().items()} | named("head.", dinos_head(False))}
    with pytest.raises(ValueError, match=r"unexpected: head.last_layer.weight_g \[9, 1\]"):
        load_weights(DINO(model(DinoHead(WIDTH, 9, HIDDEN, 5))), file)


def swav_leaves(several):
    head = shaken(mlp(WIDTH, HIDDEN, OUT, bias=True))
    names = ("prototypes.prototypes0", "prototypes.prototypes1") if several else ("prototypes",)
    prototypes = {f"{n}.weight": torch.randn(8 + i, OUT) for i, n in enumerate(names)}
    return head, prototypes


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("boxed", [False, True])
def test_swav_s_projection_and_prototypes(several, boxed):
    """Also its moments, for whoever evaluates the head: a bias before a batch norm shifts them."""
    head, prototypes = swav_leaves(several)
    leaves = {f"module.{n}": t for n, t in (trunk() | named("projection_head.", head) | prototypes).items()}
    own = tuple(blocks.Prototypes(OUT, len(t)) for t in prototypes.values())
    objective = SwAV(model(swav_head(WIDTH, HIDDEN, OUT)), own)
    params, report = load_weights(objective, {"epoch": 400, "state_dict": leaves} if boxed else leaves)
    x = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(objective.model.head(params["head"], x), head(x), rtol=0, atol=1e-5)
    for found, theirs in zip(params["prototypes"].values(), prototypes.values(), strict=True):
        assert torch.equal(found["weight"], theirs)
    assert report.layout == ("SwAV's names in 'state_dict'" if boxed else "SwAV's names")
    assert report.left == tuple(f"head.norms.0.{n}" for n in ("running_mean", "running_var", "num_batches_tracked"))


def test_a_head_s_moments_are_those_of_what_its_norm_meets_here():
    head, _ = swav_leaves(False)
    found = tree.unflatten(weights_of(named("projection_head.", head)).leaves)["head"]
    x = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(swav_head(WIDTH, HIDDEN, OUT)(found, x), head.eval()(x), rtol=0, atol=1e-5)


def test_a_swav_without_a_hidden_layer():
    linear = nn.Linear(WIDTH, OUT)
    leaves = trunk() | named("projection_head.", linear) | {"prototypes.weight": torch.randn(8, OUT)}
    params, _ = load_weights(SwAV(model(blocks.LinearHead(WIDTH, OUT)), (blocks.Prototypes(OUT, 8),)), leaves)
    assert torch.equal(params["head"]["weight"], linear.weight)


def mae_leaves():
    width = 8
    decoder = timms(embed_dim=width, num_heads=2, depth=1).state_dict()
    sines = {n: blocks.SinCosPosition((4, 4), w, 1).table((4, 4)) for n, w in (("", WIDTH), ("decoder_", width))}
    leaves = trunk() | {"pos_embed": sines[""], "decoder_pos_embed": sines["decoder_"]}
    leaves |= {f"decoder_{n}": t for n, t in decoder.items() if n.startswith(("blocks.", "norm."))}
    leaves |= named("decoder_embed.", nn.Linear(WIDTH, width)) | named("decoder_pred.", nn.Linear(width, 48))
    return leaves | {"mask_token": torch.randn(1, 1, width)}


def of_mae():
    encoder = model(pos_embed="sincos")
    return MAE(encoder, mae_decoder(encoder, embed_dim=8, depth=1, num_heads=2))


def test_mae_s_encoder_and_decoder():
    """Names are all there is to translate: the numbers of the decoder's layers are those of timm's."""
    leaves, objective = mae_leaves(), of_mae()
    params, report = load_weights(objective, {"model": leaves, "epoch": 800})
    assert report.layout == "MAE's names in 'model'"
    assert set(report.left) == {"pos_embed", "decoder.decoder_pos_embed"}
    ours = {n if n in trunk() else f"decoder.{n}": t for n, t in leaves.items()}
    assert_same(params, {n: t for n, t in ours.items() if n not in report.left})
    batch = {"crops.0": images()[:, None], "index": torch.arange(2)}
    assert objective.loss(params, objective.remember(params), batch, key(0))[0].isfinite()


def test_mae_s_encoder_alone_starts_a_classifier():
    """Fine-tuning as published: positions that are learned from the sines on, a mean over patches and a norm of its."""
    classifier = blocks.vit(**VIT, global_pool="avg")
    params, report = load_weights(
        classifier, {"model": mae_leaves()}, head="new", fresh=["fc_norm.*"], ignore=["norm.*"], key=key(0)
    )
    assert torch.equal(params["pos_embed"], mae_leaves()["pos_embed"])
    assert set(report.fresh) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    assert {n.partition(".")[0] for n in report.left} == {"norm", "decoder"}
    encoder = {n: t for n, t in mae_leaves().items() if not n.startswith(("decoder", "mask"))}
    features, _ = load_weights(model(pos_embed="sincos"), {"model": encoder})  # as published
    assert_same(features, {n: t for n, t in encoder.items() if n != "pos_embed"})


def vissl(heads):
    parts = {"trunk": trunk(), "heads": heads}
    return {"classy_state_dict": {"base_model": {"model": parts, "meta": {}}}, "loss": {}, "type": "consolidated"}


CHAINS = {
    "two heads": ("0.clf.0.", "1.clf.0."),
    "a head of two": ("0.0.clf.0.", "0.1.clf.0."),
    "one head": ("0.clf.0.", "0.clf.2."),
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("objective", [MoCo, SimCLR])
def test_vissl_s_heads_of_moco_and_simclr(objective, chain):
    first, second = shaken(nn.Linear(WIDTH, WIDTH)), shaken(nn.Linear(WIDTH, OUT))
    heads = named(CHAINS[chain][0], first) | named(CHAINS[chain][1], second)
    knobs = {"dim": OUT, "queue_size": 4} if objective is MoCo else {}
    ours = objective(model(moco_v2_head(WIDTH, WIDTH, OUT)), **knobs)
    params, report = load_weights(ours, vissl(heads))
    x = features(ours, params)
    torch.testing.assert_close(ours.model.head(params["head"], x), second(first(x).relu()), rtol=0, atol=1e-5)
    assert (report.layout, report.left) == ("VISSL", ())


def test_vissl_s_simclr_with_batch_norms():
    head = shaken(mlp(WIDTH, HIDDEN, OUT, bias=True, last=nn.BatchNorm1d(OUT)))
    ours = SimCLR(model(simclr_head(WIDTH, HIDDEN, OUT)))
    params, report = load_weights(ours, vissl(named("0.clf.", head)))
    x = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.model.head(params["head"], x), head(x), rtol=0, atol=1e-4)
    assert len(report.left) == 6


def test_vissl_s_swav_head():
    head, _ = swav_leaves(False)
    prototypes = {f"0.prototypes{i}.weight": torch.randn(7 + i, OUT) for i in range(2)}
    ours = SwAV(model(swav_head(WIDTH, HIDDEN, OUT)), (blocks.Prototypes(OUT, 7), blocks.Prototypes(OUT, 8)))
    params, _ = load_weights(ours, vissl(named("0.projection_head.", head) | prototypes))
    x = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.model.head(params["head"], x), head(x), rtol=0, atol=1e-5)
    assert torch.equal(params["prototypes"]["1"]["weight"], prototypes["0.prototypes1.weight"])


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_vissl_s_dino_head():
    head = dinos_head(False)
    leaves = {n.replace("last_layer", "prototypes0"): t for n, t in named("0.", head).items()}
    ours = DINO(model(DinoHead(WIDTH, 9, HIDDEN, 5, norm_last_layer=False)))
    params, _ = load_weights(ours, vissl(leaves))
    x = features(ours, params)
    torch.testing.assert_close(ours.model.head(params["head"], x), head(x), rtol=0, atol=1e-5)


def test_layers_with_nothing_between_them_are_no_head_of_ours():
    heads = named("0.clf.0.", nn.Linear(WIDTH, WIDTH)) | named("0.clf.1.", nn.Linear(WIDTH, OUT))
    with pytest.raises(ValueError, match=r"missing: head.layers.0.weight.*\nunexpected: heads.0.clf.0.weight"):
        load_weights(SimCLR(model(moco_v2_head(WIDTH, WIDTH, OUT))), vissl(heads))


def test_an_objective_s_own_head_may_start_afresh_and_our_own_leaves_serve_it_too():
    objective = of_mae()
    params = objective.fresh(key(1))
    assert_same(load_weights(objective, tree.flatten(params))[0], tree.flatten(params))
    encoder = trunk() | {"pos_embed": mae_leaves()["pos_embed"]}
    started, report = load_weights(objective, encoder, head="new", key=key(2))
    assert {n.partition(".")[0] for n in report.fresh} == {"decoder"}
    assert torch.equal(started["norm"]["bias"], trunk()["norm.bias"])


def test_what_one_method_has_and_another_lacks_is_named():
    file, _ = moco_v3_file()
    objective = SimCLR(model(moco_v3_projector(WIDTH, HIDDEN, OUT)))
    with pytest.raises(ValueError, match=r"unexpected: predictor.layers.0.weight \[10, 6\]") as error:
        load_weights(objective, file)
    assert "predictor.norms.0.bias [10]" in str(error.value)
    _, report = load_weights(objective, file, ignore=["predictor.*"])
    assert "predictor.layers.1.weight" in report.left
