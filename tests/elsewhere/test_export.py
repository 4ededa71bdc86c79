"""torch.export and ONNX: the same numbers within 1e-4 of the largest, for any number of images."""

import json

import pytest
import torch

from blocks import convit, distilled, key, to_exported, to_onnx, tree, trunk_from_module, vit, with_statistics
from blocks.interop import export
from tests.interop.modules import small

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 8, "num_heads": 2}
MODELS = {
    "vit": lambda: vit(**TINY, depth=1),
    "deit": lambda: distilled(vit(**TINY, depth=1)),
    "convit": lambda: convit(**TINY, depth=2, local_up_to_layer=1, drop_path_rate=0.1),
}


def made(name):
    """(model, params of which none is 0 or 1, so that no part is without effect)."""
    model = MODELS[name]()
    params = model.init(key(0))
    noise = tree.map(lambda p: torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())), params)
    return model, tree.map(lambda p, n: p + 0.3 * n, params, noise)


def images(count, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def assert_within(found, expected, share=1e-4):
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=share * expected.abs().max().item())


def test_a_program_gives_the_model_s_numbers_for_any_number_of_images(tmp_path):
    model, params = made("convit")
    torch.export.save(to_exported(model, params, images(1)), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2")
    assert program.state_dict.keys() == tree.flatten(params).keys()
    for count in (1, 3):
        assert_within(program.module()(images(count)), model(params, images(count)), 1e-6)


def test_a_module_s_trunk_is_a_program_for_any_number_of_images_too():
    model = trunk_from_module(small(), 4)
    params = with_statistics(model, model.init(key(0)), [images(6)])
    program = to_exported(model, params, images(2)).module()
    for count in (1, 3):
        assert_within(program(images(count)), model(params, images(count)), 1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_gives_the_model_s_numbers_for_any_number_of_images(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'vitmason[test]'")
    model, params = made(name)
    to_onnx(tmp_path / "model.onnx", model, params, images(1))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, output.name, output.shape) == (
        "images",
        ["batch", 3, 8, 8],
        "output",
        ["batch", 5],
    )
    for count in (1, 3):
        (found,) = session.run(None, {"images": images(count).numpy()})
        assert_within(torch.from_numpy(found), model(params, images(count)))


def test_onnx_keeps_metadata(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'vitmason[test]'")
    metadata = {"img_size": 8, "mean": [0.5, 0.5, 0.5], "classes": ["Grünfink", "Kohlmeise"]}
    to_onnx(tmp_path / "model.onnx", *made("vit"), images(1), metadata=metadata)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["metadata"]) == metadata


def test_onnx_refuses_metadata_that_json_would_change(tmp_path):
    with pytest.raises(ValueError, match="key 0 of a mapping"):
        to_onnx(tmp_path / "model.onnx", *made("vit"), images(1), metadata={0: "tit"})
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "NEEDED", ("onnx", "a_package_that_is_not_there"))
    model, params = made("vit")
    with pytest.raises(ImportError, match=r"needs a_package.*pip install 'vitmason\[onnx\]'"):
        to_onnx(tmp_path / "model.onnx", model, params, images(1))
    assert not list(tmp_path.iterdir())
