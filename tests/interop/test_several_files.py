"""Weights that lie in several files, with an index beside them that says where each leaf is."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import blocks
from tests.interop.timms import VIT, images, timms

PARTS = ("model-00001-of-00002", "model-00002-of-00002")


def parted(folder, suffix=".safetensors"):
    """(timm's model, its weights in two files): the path of their index."""
    theirs = timms()
    leaves = list(theirs.state_dict().items())
    where = {}
    for part, own in zip(PARTS, (leaves[::2], leaves[1::2]), strict=True):
        file = folder / f"{part}{suffix}"
        save_file(dict(own), file) if suffix == ".safetensors" else torch.save(dict(own), file)
        where |= {name: file.name for name, _ in own}
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return theirs, index


def edited(index, change):
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_an_index_gives_all_their_leaves(tmp_path, suffix):
    theirs, index = parted(tmp_path, suffix)
    model = blocks.vit(**VIT)
    params, report = blocks.load_weights(model, index)
    assert (report.left, report.fresh, report.source) == ((), (), str(index))
    torch.testing.assert_close(model(params, images()), theirs(images()), rtol=0, atol=1e-5)


def test_a_folder_of_hugging_face_s_does_too(tmp_path):
    transformers = pytest.importorskip("transformers")
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "hidden_size": 12}
    config = transformers.ViTConfig(**shape, image_size=16, patch_size=4, num_labels=5)
    made = transformers.ViTForImageClassification(config).eval()
    made.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model = blocks.vit(**VIT | {"num_heads": 2, "num_classes": 5, "norm_eps": 1e-12})
    params, report = blocks.load_weights(model, tmp_path / "model.safetensors.index.json")
    assert report.notes == ()
    with torch.no_grad():
        torch.testing.assert_close(model(params, images()), made(images()).logits, rtol=0, atol=1e-5)


def test_one_of_several_files_is_refused_with_the_index_to_give(tmp_path):
    _, index = parted(tmp_path)
    said = rf"model-00001-of-00002\.safetensors holds a part of the weights; give .*{index.name}"
    with pytest.raises(ValueError, match=said):
        blocks.load_weights(blocks.vit(**VIT), tmp_path / f"{PARTS[0]}.safetensors")


def test_a_part_whose_index_is_not_there_is_read_as_it_is(tmp_path):
    _, index = parted(tmp_path)
    index.unlink()
    with pytest.raises(ValueError, match="these weights do not fit the model\nmissing: "):
        blocks.load_weights(blocks.vit(**VIT), tmp_path / f"{PARTS[0]}.safetensors")


def test_a_whole_file_beside_an_index_is_read_as_it_is(tmp_path):
    theirs, _ = parted(tmp_path)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    _, report = blocks.load_weights(blocks.vit(**VIT), tmp_path / "model.safetensors")
    assert report.source == str(tmp_path / "model.safetensors")


def test_a_folder_is_refused_with_the_file_to_give(tmp_path):
    for name in ("pytorch_model.bin", "model.safetensors.index.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(FileNotFoundError, match=rf"is a folder, not a file; give .*{name}$"):
            blocks.load_weights(blocks.vit(**VIT), tmp_path)


def test_a_missing_part_is_named(tmp_path):
    _, index = parted(tmp_path)
    (tmp_path / f"{PARTS[1]}.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at .*{PARTS[1]}"):
        blocks.load_weights(blocks.vit(**VIT), index)


def test_a_part_without_a_leaf_of_the_index_is_named(tmp_path):
    _, index = parted(tmp_path)
    file = tmp_path / f"{PARTS[0]}.safetensors"
    leaves = load_file(file)
    lost = next(iter(leaves))
    save_file({name: leaf.clone() for name, leaf in leaves.items() if name != lost}, file)
    with pytest.raises(ValueError, match=rf"{file.name} has no {lost}, which .*{index.name} places there"):
        blocks.load_weights(blocks.vit(**VIT), index)


def test_a_part_that_holds_no_leaves_by_name_is_named(tmp_path):
    _, index = parted(tmp_path, ".bin")
    torch.save(torch.zeros(3), tmp_path / f"{PARTS[0]}.bin")
    with pytest.raises(ValueError, match=rf"{PARTS[0]}\.bin has no cls_token, which .*{index.name} places there"):
        blocks.load_weights(blocks.vit(**VIT), index)


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/passwd", "sub/../../x.safetensors", 3, ""])
def test_nothing_outside_the_folder_is_read(tmp_path, place):
    _, index = parted(tmp_path)
    edited(index, lambda content: content["weight_map"].update(cls_token=place))
    with pytest.raises(ValueError, match=r"places cls_token in .*no file beside it"):
        blocks.load_weights(blocks.vit(**VIT), index)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"weight_map": 3}', b'{"weight_map": {}}'])
def test_a_damaged_index_is_refused(tmp_path, content):
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(content)
    with pytest.raises(ValueError, match=r"index\.json is damaged or no index of weights"):
        blocks.load_weights(blocks.vit(**VIT), index)


def test_an_index_of_an_index_is_refused(tmp_path):
    _, index = parted(tmp_path)
    edited(index, lambda content: content["weight_map"].update(cls_token=index.name))
    with pytest.raises(ValueError, match=r"places cls_token in .*no file beside it"):
        blocks.load_weights(blocks.vit(**VIT), index)
