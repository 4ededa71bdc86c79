"""A recipe's model is the one that its weights say they are of; flags may not contradict it."""

import json
from functools import partial
from types import SimpleNamespace

import attrs
import pytest
import torch

import blocks
from blocks import random, tree
from blocks.interop.chosen import chosen
from blocks.interop.construction import describe
from blocks.layers.published_heads import moco_v3_projector
from blocks.trunks.distilled import distilled

TINY = dict(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0)
MODELS = {"vit_tiny": partial(blocks.vit, **TINY), "convit_tiny": partial(blocks.convit, **TINY, local_up_to_layer=1)}
USUAL = dict(model="vit_tiny", img_size=32, patch_size=16)
KNOBS = dict(img_size=8, patch_size=4, num_classes=3)
NOTHING = dict(model="", img_size=0, patch_size=0, global_pool="", pos_embed="", trusted=())


def pick(weights, num_classes=3, head="new", drop_path_rate=0.0, **flags):
    """What is chosen with these flags."""
    wanted = SimpleNamespace(**NOTHING | flags)
    how = dict(usual=USUAL, num_classes=num_classes, head=head, drop_path_rate=drop_path_rate)
    return chosen(MODELS, weights, wanted, **how)


def of_a_run(folder, model):
    """A checkpoint's path in a folder whose model.json describes the model."""
    (folder / "model.json").write_text(json.dumps({"model": describe(model), "params": []}))
    (folder / "step-00000001.pt").write_bytes(b"weights")
    return folder / "step-00000001.pt"


def of_a_file(folder, model):
    """The path of a file that says its model."""
    blocks.save(folder / "model.safetensors", model, model.init(random.key(0)))
    return folder / "model.safetensors"


@pytest.mark.parametrize("kept", [of_a_run, of_a_file])
@pytest.mark.parametrize("name", MODELS)
def test_weights_that_say_their_model_need_no_flag(kept, name, tmp_path):
    model = MODELS[name](**KNOBS)
    assert pick(kept(tmp_path, model), head="keep") == (model, 8)
    assert pick(kept(tmp_path, model), num_classes=0) == (MODELS[name](**KNOBS | {"num_classes": 0}), 8)


def test_without_such_weights_flags_and_usual_values_make_it(tmp_path):
    assert pick(None) == (MODELS["vit_tiny"](img_size=32, patch_size=16, num_classes=3), 32)
    (tmp_path / "theirs.pth").write_bytes(b"weights")
    given = dict(model="convit_tiny", patch_size=8, global_pool="avg", pos_embed="", drop_path_rate=0.1)
    wanted = MODELS["convit_tiny"](img_size=32, patch_size=8, num_classes=3, global_pool="avg", drop_path_rate=0.1)
    assert pick(tmp_path / "theirs.pth", **given) == (wanted, 32)


@pytest.mark.parametrize("name", MODELS)
def test_size_and_pool_that_are_given_win(name, tmp_path):
    file = of_a_run(tmp_path, MODELS[name](**KNOBS))
    wanted = MODELS[name](**KNOBS | dict(img_size=16, num_classes=0), global_pool="avg")
    assert pick(file, num_classes=0, img_size=16, global_pool="avg") == (wanted, 16)
    file = of_a_run(tmp_path, MODELS[name](**KNOBS, global_pool="avg"))
    assert pick(file, global_pool="token")[0] == MODELS[name](**KNOBS)


def test_patches_are_pooled_where_there_is_no_class_token(tmp_path):
    knobs = TINY | KNOBS | {"class_token": False}
    file = of_a_run(tmp_path, blocks.vit(**knobs, global_pool="map"))
    assert pick(file, global_pool="avg")[0] == blocks.vit(**knobs, global_pool="avg")


@pytest.mark.parametrize(
    "model",
    [
        blocks.vit(**TINY, **KNOBS, class_token=False, global_pool="avg"),
        blocks.convit(**TINY, **KNOBS, local_up_to_layer=2, global_pool="avg"),  # it would join after the last layer
    ],
)
def test_a_class_token_that_saw_nothing_is_not_pooled(model, tmp_path):
    with pytest.raises(ValueError, match=r"wants a class token that sees the image; leave --global-pool out"):
        pick(of_a_run(tmp_path, model), global_pool="token")


def test_it_drops_nothing_but_the_paths_that_are_asked_for(tmp_path):
    knobs = TINY | KNOBS | {"depth": 4}
    model = blocks.vit(**knobs, drop_rate=0.1, pos_drop_rate=0.1, proj_drop_rate=0.1, drop_path_rate=0.3)
    file = of_a_run(tmp_path, model)
    assert pick(file) == (blocks.vit(**knobs), 8)
    assert pick(file, drop_path_rate=0.2) == (blocks.vit(**knobs, drop_path_rate=0.2), 8)


def test_a_distilled_student_keeps_both_heads_and_has_features_without(tmp_path):
    model = distilled(MODELS["vit_tiny"](**KNOBS))
    file = of_a_run(tmp_path, model)
    assert pick(file, head="keep") == (model, 8)
    bare = pick(file, num_classes=0)[0]
    assert bare(bare.init(random.key(0)), torch.zeros(1, 3, 8, 8)).shape == (1, 16)
    assert pick(file, model="vit_tiny", head="fit")[0] == model


def test_images_that_are_no_squares_are_known(tmp_path):
    file = of_a_run(tmp_path, MODELS["convit_tiny"](**KNOBS | {"img_size": (8, 12)}))
    assert pick(file)[1] == (8, 12)


def test_rotary_positions_are_called_so(tmp_path):
    file = of_a_run(tmp_path, MODELS["vit_tiny"](**KNOBS, pos_embed="rope"))
    assert pick(file, head="keep")[0].trunk.pos_embed is None
    with pytest.raises(ValueError, match=r"--pos-embed learn contradicts .*model.json, which says rope"):
        pick(file, pos_embed="learn")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "convit_tiny"}, r"--model convit_tiny contradicts .*model.json: block ViT there, ConViT in conv"),
        ({"patch_size": 8}, r"--patch-size 8 contradicts .*model.json, which says 4; leave the flag out"),
        ({"pos_embed": "sincos"}, r"--pos-embed sincos contradicts .*model.json, which says learn"),
        ({"img_size": 10}, r"img_size 10 x 10 is not tiled by patch_size 4"),
        ({"num_classes": 5, "head": "keep"}, r"model.json describes has 3 classes, and the data have 5 classes"),
    ],
)
def test_a_contradiction_names_both_values_in_one_line(given, said, tmp_path):
    with pytest.raises(ValueError, match=said) as error:
        pick(of_a_run(tmp_path, MODELS["vit_tiny"](**KNOBS)), **given)
    assert "\n" not in str(error.value)


def test_heads_of_attention_that_no_shape_shows_are_compared(tmp_path):
    file = of_a_run(tmp_path, blocks.vit(**TINY | {"num_heads": 4}, **KNOBS))
    with pytest.raises(ValueError, match=r"blocks.0.attn.num_heads 4 there, 2 in vit_tiny; leave --model out"):
        pick(file, model="vit_tiny")
    assert pick(file)[0].trunk.blocks[0].attn.num_heads == 4


def test_a_pretrained_run_s_head_is_replaced_and_is_no_classifier(tmp_path):
    body = MODELS["vit_tiny"](**KNOBS | {"num_classes": 0})
    file = of_a_run(tmp_path, attrs.evolve(body, head=moco_v3_projector(16, 32, 8)))
    assert pick(file, num_classes=0)[0] == body
    with pytest.raises(ValueError, match=r"which does not classify, and the data have 3 classes; recipes/finetune"):
        pick(file, head="keep")


def test_a_head_that_fits_is_kept_unless_a_new_one_is_wanted(tmp_path):
    body = MODELS["vit_tiny"](**KNOBS | {"num_classes": 0})
    model = attrs.evolve(body, head=blocks.TanhMlpHead(16, 8, 3))
    file = of_a_run(tmp_path, model)
    assert pick(file, head="keep")[0] == pick(file, head="fit")[0] == model
    assert pick(file, head="new")[0] == MODELS["vit_tiny"](**KNOBS)
    assert pick(file, num_classes=5, head="fit")[0] == MODELS["vit_tiny"](**KNOBS | {"num_classes": 5})


@pytest.mark.parametrize("model", ["3", '{"block": "os.system"}', '{"block": "os.system", "trunk": {}}'])
def test_a_description_of_no_model_is_told_with_what_it_is_of(model, tmp_path):
    (tmp_path / "model.json").write_text(f'{{"model": {model}}}')
    (tmp_path / "step-00000001.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"model\.json describes (no model|a os\.system: no model of this library's)"):
        pick(tmp_path / "step-00000001.pt")


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_description_that_is_none_is_told_in_one_line(text, tmp_path):
    (tmp_path / "model.json").write_text(text)
    (tmp_path / "step-00000001.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"model\.json") as error:
        pick(tmp_path / "step-00000001.pt")
    assert "\n" not in str(error.value)


def test_nothing_is_guessed_of_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        pick(tmp_path / "nothing.pth")


def test_its_weights_are_read_at_another_size(tmp_path):
    model = MODELS["vit_tiny"](**KNOBS)
    file = of_a_file(tmp_path, model)
    other, _ = pick(file, img_size=16, head="keep")
    params, report = blocks.load_weights(other, file)
    assert tree.flatten(params)["pos_embed"].shape == (1, 17, 16)
    assert report.resized == ("pos_embed: 2 x 2 patches to 4 x 4",)
