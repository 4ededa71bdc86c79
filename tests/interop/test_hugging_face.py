"""Hugging Face's vision transformers: as they lie in memory, as they are saved, and by names of earlier versions."""

import json
import re

import pytest
import torch

import blocks
from blocks import tree
from blocks.interop.beside import ACTIVATIONS
from blocks.interop.layouts import weights_of
from tests.interop.timms import VIT, images
from tests.pages import ROOT

transformers = pytest.importorskip("transformers")

SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 16, "patch_size": 4}
SHAPE |= {"hidden_size": 24, "mlp_ratio": 4, "attn_implementation": "eager"}
OURS = VIT | {"embed_dim": 24, "num_classes": 0}
SCALED = OURS | {"init_values": 0.1}
CLIP = OURS | {"num_classes": 7, "pre_norm": True, "norm_eps": 1e-5}
MASKED, POOLER = ("mask_token",), ("pooler.dense.weight", "pooler.dense.bias")
CASES = {  # the config's name, the model's, its knobs, ours, what is left
    "ViT": ("ViTConfig", "ViTModel", {}, OURS | {"norm_eps": 1e-12}, POOLER),
    "ViT, classes": (
        *("ViTConfig", "ViTForImageClassification", {"num_labels": 5}),
        *(OURS | {"num_classes": 5, "norm_eps": 1e-12}, ()),
    ),
    "DINOv2": ("Dinov2Config", "Dinov2Model", {}, SCALED, MASKED),
    "DINOv2, gated": (
        *("Dinov2Config", "Dinov2Model", {"use_swiglu_ffn": True}),
        *(SCALED | {"mlp_layer": "swiglu", "mlp_ratio": 2.66667}, MASKED),
    ),
    "DINOv2 with registers": (
        *("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", {"num_register_tokens": 4}),
        *(SCALED | {"reg_tokens": 4, "no_embed_class": True}, MASKED),
    ),
    "DINOv3": (
        *("DINOv3ViTConfig", "DINOv3ViTModel", {"num_register_tokens": 4}),
        *(SCALED | {"reg_tokens": 4, "pos_embed": "rope", "norm_eps": 1e-5}, MASKED),
    ),
    "DINOv3, gated": (
        *("DINOv3ViTConfig", "DINOv3ViTModel", {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"}),
        *(SCALED | {"reg_tokens": 4, "pos_embed": "rope", "norm_eps": 1e-5, "mlp_layer": "swiglu"}, MASKED),
    ),
    "CLIP": (
        *("CLIPVisionConfig", "CLIPVisionModelWithProjection", {"projection_dim": 7}),
        *(CLIP | {"act_layer": "quick_gelu"}, ()),
    ),
    "CLIP with GELU": (
        *("CLIPVisionConfig", "CLIPVisionModelWithProjection", {"projection_dim": 7, "hidden_act": "gelu"}),
        *(CLIP, ()),
    ),
    "SigLIP": (
        *("SiglipVisionConfig", "SiglipVisionModel", {}),
        *(OURS | {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"}, ()),
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


def theirs(name):
    config, model, knobs, _, _ = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, model)(getattr(transformers, config)(**SHAPE | knobs)).eval()
        for leaf in made.parameters():
            leaf.data.add_(0.1 * torch.randn_like(leaf))
    return made


def output(made):
    with torch.no_grad():
        found = made(images())
    if "logits" in found:
        return found.logits
    if "image_embeds" in found:
        return found.image_embeds
    return found.pooler_output if "Siglip" in type(made).__name__ else found.last_hidden_state[:, 0]


@every_case
def test_a_state_dict_gives_its_numbers(name):
    made, model = theirs(name), blocks.vit(**CASES[name][3])
    params, report = blocks.load_weights(model, made.state_dict())
    assert report.layout == "Hugging Face's names"
    assert report.left == CASES[name][4]
    assert report.fresh == ()
    torch.testing.assert_close(model(params, images()), output(made), rtol=0, atol=1e-5)


@every_case
def test_a_saved_folder_s_file_gives_them_too(name, tmp_path):
    made, model = theirs(name), blocks.vit(**CASES[name][3])
    made.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    params, report = blocks.load_weights(model, file)
    assert len(report.left) == len(CASES[name][4])
    assert report.notes == ()
    torch.testing.assert_close(model(params, images()), output(made), rtol=0, atol=1e-5)


EARLIER = {
    "ViT, classes": (
        ("vit.layers.", "vit.encoder.layer."),
        *((f"attention.{n[0]}_proj", f"attention.attention.{n}") for n in ("query", "key", "value")),
        ("attention.o_proj", "attention.output.dense"),
        *(("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense")),
    ),
    "DINOv2": (
        *((f"attention.{n[0]}_proj", f"attention.attention.{n}") for n in ("query", "key", "value")),
        ("attention.o_proj", "attention.output.dense"),
    ),
    "DINOv3": (("model.layer.", "layer."),),
    "SigLIP": (("embeddings.", "vision_model.embeddings."), ("encoder.", "vision_model.encoder.")),
}


@pytest.mark.parametrize("name", EARLIER)
def test_names_of_earlier_versions_are_read(name):
    made, model, leaves = theirs(name), blocks.vit(**CASES[name][3]), theirs(name).state_dict()
    for new, old in EARLIER[name]:
        assert any(new in leaf or old in leaf for leaf in leaves)  # the first of version 5 still has the old ones
        leaves = {leaf.replace(new, old): t for leaf, t in leaves.items()}
    params, _ = blocks.load_weights(model, leaves)
    torch.testing.assert_close(model(params, images()), output(made), rtol=0, atol=1e-5)


def test_dinov2_s_gated_mlp_lay_packed_once():
    made, leaves = theirs("DINOv2, gated"), theirs("DINOv2, gated").state_dict()
    for name in [name for name in leaves if ".gate_proj." in name]:
        packed = torch.cat((leaves.pop(name), leaves.pop(name.replace("gate_proj", "up_proj"))))
        leaves[name.replace("gate_proj", "weights_in")] = packed
        leaves[name.replace("gate_proj", "weights_out")] = leaves.pop(name.replace("gate_proj", "down_proj"))
    model = blocks.vit(**CASES["DINOv2, gated"][3])
    params, _ = blocks.load_weights(model, leaves, head="new")
    torch.testing.assert_close(model(params, images()), output(made), rtol=0, atol=1e-5)


def test_a_whole_clip_s_text_is_left(tmp_path):
    text = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    config = transformers.CLIPConfig(vision_config=SHAPE, text_config=text | {"vocab_size": 9}, projection_dim=7)
    made, model = transformers.CLIPModel(config).eval(), blocks.vit(**CLIP | {"act_layer": "quick_gelu"})
    made.save_pretrained(tmp_path)
    params, report = blocks.load_weights(model, tmp_path / "model.safetensors")
    assert {"logit_scale", "text_projection.weight"} < set(report.left)
    assert all(name.startswith(("text", "logit")) for name in report.left)
    expected = made.get_image_features(images())
    expected = getattr(expected, "pooler_output", expected)
    torch.testing.assert_close(model(params, images()), expected.detach(), rtol=0, atol=1e-5)


def test_a_wrong_activation_is_told_by_the_config_beside_the_file(tmp_path):
    theirs("CLIP").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    said = r'trained with act_layer "quick_gelu", the model has "gelu": make it with act_layer="quick_gelu"'
    with pytest.raises(ValueError, match=said):
        blocks.load_weights(blocks.vit(**CLIP), file)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["hidden_act"]  # the usual one may be left out
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=said):
        blocks.load_weights(blocks.vit(**CLIP), file)
    (tmp_path / "config.json").write_text("[1")
    assert "names do not tell" in blocks.load_weights(blocks.vit(**CLIP), file)[1].notes[0]


def test_an_activation_that_no_block_has_is_refused(tmp_path):
    """A ViT's names are those of one with GELU: nothing else would tell."""
    config = transformers.ViTConfig(**SHAPE, hidden_act="relu")
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r'trained with act_layer "relu", the model has "gelu": no block here has'):
        blocks.load_weights(blocks.vit(**OURS), tmp_path / "model.safetensors")


def test_a_distilled_deit_has_both_heads(tmp_path):
    config = transformers.DeiTConfig(**SHAPE, num_labels=5)
    made = transformers.DeiTForImageClassificationWithTeacher(config).eval()
    made.save_pretrained(tmp_path)
    model = blocks.distilled(blocks.vit(**OURS | {"num_classes": 5, "norm_eps": 1e-12}))
    params, _ = blocks.load_weights(model, tmp_path / "model.safetensors")
    torch.testing.assert_close(model(params, images()), output(made), rtol=0, atol=1e-5)


ROW = re.compile(r"^\| `(\w+)` \| `(vit\w*\(.*\))` \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "project.md").read_text())


def test_docs_project_has_a_row_of_each_kind():
    assert {made for _, made, *_ in CASES.values()} - {name for name, _ in ROWS} == {"ViTModel"}


@pytest.mark.parametrize(("name", "code"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_makes_the_model_of_the_usual_config(name, code):
    config = getattr(transformers, name).config_class()
    with torch.device("meta"):
        leaves = getattr(transformers, name)(config).state_dict()
    ours = eval(code, vars(blocks).copy())
    params = tree.flatten(ours.init(blocks.key(0, device="meta")))
    found = {n: t.shape for n, t in weights_of(leaves).leaves.items() if n != "mask_token"}
    assert {n: t.shape for n, t in params.items()} == found
    layer = ours.trunk.blocks[0]
    assert (layer.norm1.eps, layer.attn.num_heads) == (config.layer_norm_eps, config.num_attention_heads)
    assert layer.mlp.act_layer == ACTIVATIONS[config.hidden_act]


def test_a_vit_s_eps_is_noted():
    _, report = blocks.load_weights(blocks.vit(**OURS), theirs("ViT").state_dict())
    (note,) = report.notes
    assert note.startswith("its norms had eps 1e-12, the model's have 1e-06; vissl.with_eps(model, 1e-12)")
