"""A saved model comes back as it was, bit by bit; what is not one is refused and runs nothing."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

import blocks
from blocks import key, tree
from blocks.interop.saving import FORMAT
from tests.block_table import TABLE
from tests.interop.test_construction import DESCRIBABLE
from tests.interop.timms import assert_same

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "num_heads": 4, "depth": 2, "num_classes": 3}


def tiny():
    model = blocks.convit(**TINY, local_up_to_layer=1)
    return model, model.init(key(0))


def written(path, leaves, **about):
    save_file(leaves, path, metadata={"format": FORMAT, **about})
    return path


@pytest.mark.parametrize("name", DESCRIBABLE)
def test_every_block_and_its_params_come_back_as_they_were(name, tmp_path):
    model = TABLE[name].make()
    params = model.init(key(1))
    blocks.save(tmp_path / "model.safetensors", model, params)
    found, leaves = blocks.load(tmp_path / "model.safetensors")
    assert found == model
    assert list(tree.flatten(leaves)) == list(tree.flatten(params))
    assert_same(leaves, tree.flatten(params))
    assert tree.children(leaves) is None or leaves.keys() == params.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_stay(dtype, tmp_path):
    model, params = tiny()
    blocks.save(tmp_path / "m", model, tree.cast(params, dtype))
    assert_same(blocks.load(tmp_path / "m")[1], tree.flatten(tree.cast(params, dtype)))


def test_leaves_that_share_storage_or_lie_across_it_are_saved_as_they_look(tmp_path):
    model = blocks.Linear(3, 3)
    square = torch.arange(9.0).view(3, 3)
    params = {"weight": square.T, "bias": square[1]}
    blocks.save(tmp_path / "m", model, params)
    assert_same(blocks.load(tmp_path / "m")[1], params)
    tied = {"weight": square[0].clone()}
    tied["bias"] = tied["weight"]
    blocks.save(tmp_path / "in" / "folders" / "m", blocks.LayerNorm(3), tied)
    assert_same(blocks.load(tmp_path / "in" / "folders" / "m")[1], tied)


def test_running_moments_of_a_head_are_kept(tmp_path):
    model = blocks.vit(**TINY, head=blocks.moco_v3_projector(8, 6, 4))
    params = model.init(key(0))
    params["head"] = {**params["head"], "final_norm": {"running_mean": torch.ones(4), "running_var": torch.ones(4)}}
    blocks.save(tmp_path / "m", model, params)
    found, leaves = blocks.load(tmp_path / "m")
    assert_same(leaves, tree.flatten(params))
    assert found(leaves, torch.ones(2, 3, 8, 8)).shape == (2, 4)


def test_what_is_loaded_shares_nothing_with_the_file(tmp_path):
    model, params = tiny()
    blocks.save(tmp_path / "m", model, params)
    first = blocks.load(tmp_path / "m")[1]
    first["cls_token"].fill_(7.0)
    assert_same(blocks.load(tmp_path / "m")[1], tree.flatten(params))


def test_the_file_is_plain_safetensors_with_the_model_in_its_metadata(tmp_path):
    model, params = tiny()
    blocks.save(tmp_path / "new" / "model.safetensors", model, params)
    assert load_file(tmp_path / "new" / "model.safetensors").keys() == tree.flatten(params).keys()
    header = (tmp_path / "new" / "model.safetensors").read_bytes()[8:]
    about = json.JSONDecoder().raw_decode(header.decode("latin1"))[0]["__metadata__"]
    assert about == {"format": "vitmason 1", "model": json.dumps(blocks.describe(model))}


METADATA = {
    "img_size": [224, 192],
    "crop_pct": 0.875,
    "mean": [0.485, 0.456, 0.406],
    "interpolation": "bicubic",
    "classes": {"0": "Kohlmeise", "1": "Grünfink"},
    "horizontal": None,
    "square": False,
}


def test_metadata_comes_back_as_it_was(tmp_path):
    model, params = tiny()
    blocks.save(tmp_path / "m", model, params, metadata=METADATA)
    assert blocks.saved_metadata(tmp_path / "m") == METADATA
    assert blocks.load(tmp_path / "m")[0] == model
    blocks.save(tmp_path / "m", model, params, metadata={"mean": (0.5, 0.5)})
    assert blocks.saved_metadata(str(tmp_path / "m")) == {"mean": [0.5, 0.5]}


def test_a_file_without_metadata_says_nothing(tmp_path):
    blocks.save(tmp_path / "m", *tiny())
    assert blocks.saved_metadata(tmp_path / "m") == {}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"mean": torch.ones(3)}, "Tensor"),
        ({"crop_pct": float("nan")}, "not JSON compliant"),
        ({"classes": {0: "tit", 1: "finch"}}, "key 0 of a mapping is a int, and JSON's are texts"),
        ([("img_size", 224)], "a list is no mapping"),
    ],
)
def test_metadata_that_json_would_change_is_refused(metadata, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        blocks.save(tmp_path / "m", *tiny(), metadata=metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[3]", "[" * 10_000])
def test_metadata_that_is_no_mapping_is_told(text, tmp_path):
    model = json.dumps(blocks.describe(tiny()[0]))
    path = written(tmp_path / "m", {"weight": torch.ones(1)}, model=model, metadata=text)
    with pytest.raises(ValueError, match="m has damaged metadata"):
        blocks.saved_metadata(path)


def test_metadata_of_a_file_that_save_did_not_write_is_refused(tmp_path):
    save_file({"weight": torch.ones(1)}, tmp_path / "m")
    with pytest.raises(ValueError, match="has the format None, not 'vitmason 1'"):
        blocks.saved_metadata(tmp_path / "m")


def test_load_weights_reads_it_for_another_head(tmp_path):
    model, params = tiny()
    blocks.save(tmp_path / "m.safetensors", model, params)
    loaded, report = blocks.load_weights(model, tmp_path / "m.safetensors")
    assert_same(loaded, tree.flatten(params))
    other = blocks.convit(**TINY | {"num_classes": 7}, local_up_to_layer=1)
    loaded, report = blocks.load_weights(other, tmp_path / "m.safetensors", head="new", key=key(3))
    assert set(report.left) == {"head.weight", "head.bias"}
    assert loaded["head"]["weight"].shape == (7, 8)


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    model, params = tiny()
    path = tmp_path / "m"
    blocks.save(path, model, params)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        blocks.save(path, model, tree.map(torch.zeros_like, params))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert_same(blocks.load(path)[1], tree.flatten(params))


def test_params_of_another_model_are_not_saved(tmp_path):
    model, params = tiny()
    wrong = {
        **{n: p for n, p in params.items() if n != "head"},
        "more": torch.ones(2),
        "cls_token": torch.ones(1, 1, 9),
    }
    with pytest.raises(ValueError, match="not those of the model") as error:
        blocks.save(tmp_path / "m", model, wrong)
    for said in (
        "missing head.weight [3, 8]",
        "missing head.bias [3]",
        "unexpected more [2]",
        "cls_token: wanted [1, 1, 8], found [1, 1, 9]",
    ):
        assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_file_whose_tensors_are_not_its_model_s_names_them(tmp_path):
    model, params = tiny()
    leaves = tree.flatten(params) | {"head.weight": torch.ones(2, 2), "head.weight.running_mean": torch.ones(2)}
    with pytest.raises(ValueError, match=r"unexpected head.weight.running_mean|below a tensor"):
        blocks.load(written(tmp_path / "m", leaves, model=json.dumps(blocks.describe(model))))
    del leaves["head.weight.running_mean"]
    with pytest.raises(ValueError, match=r"head.weight: wanted \[3, 8\], found \[2, 2\]"):
        blocks.load(written(tmp_path / "m", leaves, model=json.dumps(blocks.describe(model))))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "does not say its model"),
        ({"model": "{"}, "does not say its model"),
        ({"model": "[" * 10_000}, "does not say its model"),
        ({"model": "3"}, "describes no block"),
        ({"model": '{"block": "os.system", "command": "touch evil"}'}, "'os.system' is not of"),
        ({"format": "vitmason 9"}, "has the format 'vitmason 9', not 'vitmason 1': load_weights"),
    ],
)
def test_a_file_that_describes_no_model_of_ours_is_refused(about, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        blocks.load(written(tmp_path / "m", {"weight": torch.ones(1)}, **about))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_damaged_file_is_refused(share, tmp_path):
    blocks.save(tmp_path / "m", *tiny())
    content = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="m is damaged or no safetensors file"):
        blocks.load(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        blocks.load(tmp_path / "absent")


def test_a_pickle_in_its_place_is_not_run(tmp_path):
    evil = f"cos\nsystem\n(S'touch {tmp_path}/evil'\ntR."
    for name in ("m", "m.safetensors"):
        (tmp_path / name).write_bytes(evil.encode())
        with pytest.raises(ValueError, match="damaged"):
            blocks.load(tmp_path / name)
    with pytest.raises(ValueError, match="damaged"):
        blocks.load_weights(tiny()[0], tmp_path / "m.safetensors")
    assert not (tmp_path / "evil").exists()
