"""Files of a whole CLIP: OpenAI's archives, its state_dict, open_clip's; and that a wrong activation is told."""

import json
import zipfile

import pytest
import torch
from torch import nn

import blocks
from blocks.interop.torchscript import read_torchscript
from blocks.layers.compiled import compiled_layers
from tests.interop.openai_clip import OUT, archive, clip
from tests.interop.timms import VIT, images, saved, timms

KNOBS = VIT | {"num_classes": OUT, "pre_norm": True, "norm_eps": 1e-5}
OPENAI = KNOBS | {"act_layer": "quick_gelu"}
TEXT = ("text_projection", "logit_scale", "token_embedding.weight", "ln_final.weight", "ln_final.bias")
pytestmark = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)


def assert_equal_numbers(model, params, theirs):
    torch.testing.assert_close(model(params, images()), theirs(images()), rtol=0, atol=1e-5)


def test_openai_s_archive_is_read_and_none_of_its_code_is_run(tmp_path):
    theirs, model = archive(tmp_path / "ViT-B-32.pt"), blocks.vit(**OPENAI)
    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt") as whole, zipfile.ZipFile(tmp_path / "bare.pt", "w") as bare:
        for name in whole.namelist():
            bare.writestr(name, b"no code" if "/code/" in name else whole.read(name))
    for file in ("ViT-B-32.pt", "bare.pt"):
        params, report = blocks.load_weights(model, tmp_path / file)
        assert set(report.left) == {*TEXT, "input_resolution", "context_length", "vocab_size"}
        assert (report.layout, report.fresh, report.notes) == ("CLIP's names", (), ())
        assert_equal_numbers(model, params, theirs)


def test_an_archive_s_leaves_are_the_model_s_to_the_bit(tmp_path):
    expected = archive(tmp_path / "a.pt").half().state_dict()
    found = read_torchscript(tmp_path / "a.pt")
    assert found.keys() == expected.keys()
    assert all(torch.equal(leaf.to(expected[name]), expected[name]) for name, leaf in found.items())


def test_a_half_precision_archive_gives_float32(tmp_path):
    theirs = clip().half()
    torch.jit.trace(theirs, torch.zeros(1, 3, 16, 16).half()).save(str(tmp_path / "half.pt"))
    params, _ = blocks.load_weights(blocks.vit(**OPENAI), tmp_path / "half.pt")
    assert params["norm_pre"]["weight"].dtype == torch.float32
    assert_equal_numbers(blocks.vit(**OPENAI), params, theirs.float())


def test_openai_s_archive_tells_its_activation(tmp_path):
    archive(tmp_path / "a.pt")
    said = r'trained with act_layer "quick_gelu", the model has "gelu": make it with act_layer="quick_gelu"'
    plain = blocks.vit(**KNOBS)
    for model in (plain, blocks.checkpointed(plain), compiled_layers(plain)):
        with pytest.raises(ValueError, match=said):
            blocks.load_weights(model, tmp_path / "a.pt")


def test_a_state_dict_does_not_and_the_report_says_so():
    for act, knobs, name in ((nn.GELU(), KNOBS, "gelu"), (None, OPENAI, "quick_gelu")):
        theirs, model = clip(act), blocks.vit(**knobs)
        params, report = blocks.load_weights(model, theirs.state_dict())
        (note,) = report.notes
        assert f'names do not tell the activation, the model has act_layer "{name}"' in note
        assert set(report.left) == set(TEXT)
        assert_equal_numbers(model, params, theirs)


def test_timm_s_clip_does_not_either_but_a_vit_has_no_note():
    theirs = timms(pre_norm=True, num_classes=OUT).state_dict()
    assert "names do not tell" in blocks.load_weights(blocks.vit(**KNOBS), theirs)[1].notes[0]
    assert blocks.load_weights(blocks.vit(**VIT), timms().state_dict())[1].notes == ()


def test_timm_s_config_beside_the_file_tells_quick_gelu(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "vit_base_patch16_clip_quickgelu_224"}')
    path = saved(timms(pre_norm=True, num_classes=OUT).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match='make it with act_layer="quick_gelu"'):
        blocks.load_weights(blocks.vit(**KNOBS), path)
    assert blocks.load_weights(blocks.vit(**OPENAI), path)[1].notes == ()


def test_another_eps_is_noted():
    _, report = blocks.load_weights(blocks.vit(**OPENAI | {"norm_eps": 1e-6}), clip().state_dict())
    assert report.notes[0].startswith("its norms had eps 1e-05, the model's have 1e-06")


def test_the_projection_can_be_left_out():
    model = blocks.vit(**OPENAI | {"num_classes": 0})
    params, report = blocks.load_weights(model, clip().state_dict(), head="new")
    assert set(report.left) == {"head.weight", "head.bias", *TEXT}
    assert (model(params, images()) @ clip().visual.proj - clip()(images())).abs().max() < 1e-5


def test_open_clip_s_towers_of_timm_stand_below_trunk(tmp_path):
    theirs = timms(class_token=False, global_pool="map", num_classes=0)
    leaves = {f"module.visual.trunk.{name}": leaf for name, leaf in theirs.state_dict().items()}
    leaves |= {"module.logit_bias": torch.zeros(1), "module.text.token_embedding.weight": torch.zeros(5, 4)}
    model = blocks.vit(**VIT | {"num_classes": 0}, class_token=False, global_pool="map")
    params, report = blocks.load_weights(model, saved({"state_dict": leaves, "epoch": 3}, tmp_path / "epoch_3.pt"))
    assert set(report.left) == {"logit_bias", "text.token_embedding.weight"}
    assert_equal_numbers(model, params, theirs)


def test_an_archive_that_holds_something_else_is_refused(tmp_path):
    archive(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as whole, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for name in whole.namelist():
            evil.writestr(name, b"cos\nsystem\n(S'false'\ntR." if name.endswith("/data.pkl") else whole.read(name))
    with pytest.raises(ValueError, match=r"evil\.pt is damaged, or holds more than tensors .*it has a os\.system"):
        blocks.load_weights(blocks.vit(**OPENAI), tmp_path / "evil.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.pt is damaged"):
        blocks.load_weights(blocks.vit(**OPENAI), tmp_path / "cut.pt")


def open_clip_s(folder, vision, **model):
    """A tower's file as open_clip publishes it, with its config beside."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"vision_cfg": vision, **model}}))
    return saved(clip().state_dict(), folder / "open_clip_pytorch_model.bin")


@pytest.mark.parametrize(
    ("vision", "model", "act", "eps"),
    [
        ({"layers": 2}, {}, "gelu", 1e-5),
        ({"layers": 2}, {"quick_gelu": True}, "quick_gelu", 1e-5),
        ({"layers": 2, "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}}, {}, "gelu_tanh", 1e-6),
    ],
)
def test_open_clip_s_config_beside_the_file_tells_activation_and_eps(tmp_path, vision, model, act, eps):
    path, knobs = open_clip_s(tmp_path, vision, **model), KNOBS | {"norm_eps": eps}
    assert blocks.load_weights(blocks.vit(**knobs | {"act_layer": act}), path)[1].notes == ()
    for other in {"gelu", "quick_gelu", "gelu_tanh"} - {act}:
        with pytest.raises(ValueError, match=f'make it with act_layer="{act}"'):
            blocks.load_weights(blocks.vit(**knobs | {"act_layer": other}), path)
    _, report = blocks.load_weights(blocks.vit(**knobs | {"act_layer": act, "norm_eps": 1e-3}), path)
    assert report.notes[0].startswith(f"its norms had eps {eps:g}")


@pytest.mark.parametrize("vision", [{"timm_model_name": "vit_base_patch16_siglip_224"}, {}, 3, None])
def test_open_clip_s_config_of_no_own_tower_tells_nothing(tmp_path, vision):
    path = open_clip_s(tmp_path, vision, quick_gelu=True)
    assert "names do not tell the activation" in blocks.load_weights(blocks.vit(**KNOBS), path)[1].notes[0]


def test_a_tower_without_a_first_norm_is_read_and_as_unsure():
    theirs, model = clip(), blocks.vit(**OPENAI | {"pre_norm": False})
    theirs.visual.ln_pre = nn.Identity()
    params, report = blocks.load_weights(model, theirs.state_dict())
    assert "names do not tell the activation" in report.notes[0]
    assert_equal_numbers(model, params, theirs)
    other = blocks.vit(**OPENAI | {"pre_norm": False, "norm_eps": 1e-6})
    assert "its norms had eps 1e-05" in blocks.load_weights(other, theirs.state_dict())[1].notes[0]
