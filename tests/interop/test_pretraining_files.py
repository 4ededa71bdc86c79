"""Checkpoints of published pretraining: trunk, heads and decoder come into our objectives, and compute what they did.

No file of theirs is at hand: each is made here of the modules and by the names of its method's released code.
"""

import runpy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import blocks
from blocks import key, load_weights, tree
from blocks.interop.layouts import weights_of
from blocks.interop.moco_v3 import other_heads
from blocks.layers.checkpointed import checkpointed
from blocks.layers.dino_head import DinoHead
from blocks.layers.published_heads import moco_v2_head, moco_v3_predictor, moco_v3_projector, simclr_head, swav_head
from blocks.objectives.dino import DINO
from blocks.objectives.mae import MAE
from blocks.objectives.moco import MoCo
from blocks.objectives.moco_v3 import MoCoV3
from blocks.objectives.simclr import SimCLR
from blocks.objectives.swav import SwAV
from blocks.trunks.mae_decoder import mae_decoder
from tests.interop.timms import VIT, assert_same, images, timms

WIDTH, HIDDEN, OUT = VIT["embed_dim"], 10, 6


def trunk(seed=0):
    return {n: t for n, t in timms(seed=seed).state_dict().items() if not n.startswith("head.")}


def shaken(module, seed=5):
    """The module with no leaf left at 0 or 1."""
    draw = torch.Generator().manual_seed(seed)
    for leaf in [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]:
        leaf.data.add_(0.2 * torch.rand(leaf.shape, generator=draw))
    return module


def named(prefix, module):
    return {f"{prefix}{name}": leaf for name, leaf in module.state_dict().items()}


def model(head=None, **knobs):
    return blocks.vit(**VIT | {"num_classes": 0} | knobs, head=head)


def features(objective, params):
    return objective.model.features(params, images())


def mlp(*widths, bias=False, last=None):
    """Linear, batch norm and ReLU in turn, as MoCo v3's `_build_mlp`; with `last`, the norm at the end."""
    layers = []
    for i, (a, b) in enumerate(pairwise(widths)):
        hidden = i < len(widths) - 2
        layers += [nn.Linear(a, b, bias=bias)]
        layers += [nn.BatchNorm1d(b), nn.ReLU()] if hidden else [last] if last else []
    return nn.Sequential(*layers)


def moco_v3_positions(side, width):
    """[1, 1 + side * side, D]: the mesh of (columns, rows) is indexed "ij", so the first half counts rows of tokens."""
    mesh = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequencies = 1 / 10000 ** (torch.arange(width // 4) / (width // 4))
    angles = [torch.outer(places.flatten(), frequencies) for places in mesh]
    patches = torch.cat([wave(a) for a in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat((torch.zeros(1, width), patches))[None]


def moco_v3_file(seed=0):
    projector = shaken(mlp(WIDTH, HIDDEN, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False)), seed)
    predictor = shaken(mlp(OUT, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False)), seed + 1)
    sines = moco_v3_positions(4, WIDTH)
    leaves = {f"module.base_encoder.{n}": t for n, t in (trunk() | {"pos_embed": sines}).items()}
    leaves |= {f"module.momentum_encoder.{n}": t for n, t in (trunk(1) | {"pos_embed": sines}).items()}
    leaves |= named("module.base_encoder.head.", projector) | named("module.predictor.", predictor)
    leaves |= named("module.momentum_encoder.head.", shaken(projector, 9))
    return {"epoch": 300, "arch": "vit_small", "state_dict": leaves, "optimizer": {}}, leaves


def of_moco_v3(pos_embed="learn"):
    head = moco_v3_projector(WIDTH, HIDDEN, OUT)
    return MoCoV3(model(head, pos_embed=pos_embed), moco_v3_predictor(OUT, HIDDEN))


def test_moco_v3_s_projector_and_predictor_compute_what_they_did():
    file, leaves = moco_v3_file()
    objective = of_moco_v3()
    params, report = load_weights(objective, file)
    projector = mlp(WIDTH, HIDDEN, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False))
    predictor = mlp(OUT, HIDDEN, OUT, last=nn.BatchNorm1d(OUT, affine=False))
    for module, prefix in ((projector, "module.base_encoder.head."), (predictor, "module.predictor.")):
        module.load_state_dict({n.removeprefix(prefix): t for n, t in leaves.items() if n.startswith(prefix)})
    x = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0))
    z = objective.model.head(params["head"], x)
    torch.testing.assert_close(z, projector(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(objective.predictor(params["predictor"], z), predictor(projector(x)), rtol=0, atol=1e-4)
    assert report.layout == "MoCo v3's names in 'state_dict'"
    assert report.fresh == ()
    assert all(n.endswith(("running_mean", "running_var", "num_batches_tracked")) for n in report.left)
    assert len(report.left) == 3 * 5  # of five batch norms
    expected = trunk() | {"pos_embed": moco_v3_positions(4, WIDTH)}
    assert_same({n: t for n, t in params.items() if n not in ("head", "predictor")}, expected)


def test_moco_v3_s_teacher_begins_ours():
    file, leaves = moco_v3_file()
    objective = of_moco_v3()
    params, _ = load_weights(objective, file)
    teacher, report = load_weights(objective.model, file, which="teacher")
    memory = {**objective.remember(params), "teacher": teacher}
    assert tree.flatten(memory["teacher"]).keys() == tree.flatten(objective.remember(params)["teacher"]).keys()
    assert torch.equal(teacher["norm"]["bias"], leaves["module.momentum_encoder.norm.bias"])
    assert torch.equal(teacher["head"]["layers"]["0"]["weight"], leaves["module.momentum_encoder.head.0.weight"])
    assert not any(name.startswith("predictor") for name in report.left)


@pytest.mark.parametrize(("which", "seed"), [("params", 0), ("teacher", 1)])
def test_moco_v3_s_positions_are_taken_as_they_are_and_give_its_features(which, seed):
    file, _ = moco_v3_file()
    theirs = timms()
    theirs.load_state_dict(trunk(seed) | {"pos_embed": moco_v3_positions(4, WIDTH)}, strict=False)
    params, _ = load_weights(model(), file, which=which, head="new")
    expected = theirs.forward_features(images())[:, 0]
    torch.testing.assert_close(model().features(params, images()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", ["params", "teacher"])
def test_moco_v3_s_positions_are_not_those_of_our_sines_and_the_error_says_what_takes_them(which):
    file, _ = moco_v3_file()
    ours = of_moco_v3("sincos").model
    with pytest.raises(ValueError, match=r"pos_embed has the sines of rows first.*pos_embed=\"learn\"") as error:
        load_weights(ours, file, which=which, ignore=["predictor.*"] if which == "params" else [])
    assert "unexpected: pos_embed [1, 17, 12]\n" in str(error.value)


def test_positions_that_are_no_sines_are_not_left_out():
    leaves = mae_leaves()
    leaves["pos_embed"] = leaves["pos_embed"] + 0.01
    with pytest.raises(ValueError, match=r"unexpected: pos_embed \[1, 17, 12\]") as error:
        load_weights(of_mae(), leaves)
    assert "rows first" not in str(error.value)


SMALL = {"embed_dim": 384, "depth": 1, "img_size": 56}  # MoCo v3's ViT-S but for its depth and pixels


def small_file(heads=12):
    """(timm's model of so many heads, its leaves with MoCo v3's positions)."""
    theirs = timms(**SMALL, num_heads=heads)
    leaves = {n: t for n, t in theirs.state_dict().items() if not n.startswith("head.")}
    leaves["pos_embed"] = moco_v3_positions(14, 384)
    theirs.load_state_dict(leaves, strict=False)
    return theirs, leaves


@pytest.mark.parametrize(("which", "prefix"), [("params", "base_encoder"), ("teacher", "momentum_encoder")])
@pytest.mark.parametrize("change", [lambda model: model, checkpointed])
def test_moco_v3_s_small_vit_has_12_heads_which_no_shape_tells(which, prefix, change):
    theirs, leaves = small_file()
    file = {"state_dict": {f"module.{prefix}.{n}": t for n, t in leaves.items()}}
    with pytest.raises(ValueError, match=r"ViT-S has 12 heads, the model 6, .*vit_small\(num_heads=12\).*base_encoder"):
        load_weights(change(model(**SMALL, num_heads=6)), file, which=which)
    ours = change(model(**SMALL, num_heads=12))
    params, report = load_weights(ours, file, which=which)
    expected = theirs.forward_features(images(56))[:, 0]
    torch.testing.assert_close(ours.features(params, images(56)), expected, rtol=0, atol=1e-4)
    assert report.notes == ()


@pytest.mark.parametrize("name", ["knn", "linear_probe"])
def test_recipes_have_moco_v3_s_small_vit_by_the_name_that_the_error_says(name):
    path = Path(__file__).parents[2] / "recipes" / f"{name}.py"
    made = runpy.run_path(str(path), run_name="recipe")["MODELS"]["vit_small_12_heads"](num_classes=0)
    assert made == blocks.vit_small(0, num_heads=12)
    said = other_heads(blocks.vit_small(0).trunk, tree.flatten(made.init(key(0, device="meta"))))
    assert "--model vit_small_12_heads" in said


def test_a_file_of_moco_v3_s_small_vit_without_its_names_is_told_by_its_positions():
    """Its code for linear probes and its conversion to DeiT's names write such; another's ViT may have had 6 heads."""
    _, leaves = small_file()
    _, report = load_weights(model(**SMALL, num_heads=6), leaves)
    assert len(report.notes) == 1
    assert report.notes[0].startswith("MoCo v3's ViT-S has 12 heads, the model 6")
    assert load_weights(model(**SMALL, num_heads=12), leaves)[1].notes == ()
    leaves["pos_embed"] = leaves["pos_embed"] + 0.01
    assert load_weights(model(**SMALL, num_heads=6), leaves)[1].notes == ()


def test_what_has_not_the_width_of_moco_v3_s_small_vit_may_have_any_heads():
    file, _ = moco_v3_file()
    load_weights(model(num_heads=2), file, head="new")
    _, leaves = small_file()
    names = {f"base_encoder.{n}": t for n, t in leaves.items()}
    with pytest.raises(ValueError, match="of another shape") as error:
        load_weights(model(**SMALL | {"embed_dim": 192}, num_heads=6), names)
    assert "heads" not in str(error.value)


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
