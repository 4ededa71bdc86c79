"""What people give for weights by mistake: each is told in words that help, and no numbers are made up."""

import pytest
import torch
from safetensors.torch import save_file

import blocks
from blocks import tree
from blocks.interop.checkpoints import load_weights
from blocks.interop.described import description_of
from blocks.runs import checkpoint
from tests.interop.timms import VIT, assert_same, timms

MODEL = blocks.vit(**VIT)


@pytest.fixture(scope="module")
def leaves():
    return dict(timms().state_dict())


@pytest.mark.parametrize("name", ["norm.weight", "pos_embed"])
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda t: t.to(torch.int8), "torch.int8"),
        (lambda t: t.to(torch.complex64), "torch.complex64"),
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to("meta"), "without data"),
    ],
)
def test_leaves_that_are_no_plain_floats_are_refused_and_not_converted(leaves, change, kind, name):
    with pytest.raises(ValueError, match=f"no plain floats: {name} {kind}"):
        load_weights(MODEL, leaves | {name: change(leaves[name])})


def test_names_that_share_a_first_word_are_said_to(leaves):
    """A LightningModule's."""
    theirs = {"state_dict": {f"model.{name}": leaf for name, leaf in leaves.items()}}
    with pytest.raises(ValueError, match=r"all names begin with model\.: give the state_dict without it"):
        load_weights(MODEL, theirs)


@pytest.mark.parametrize("read", [load_weights, blocks.from_timm])
@pytest.mark.parametrize("first", ["", "module.", "_orig_mod."])
def test_two_of_one_name_are_not_chosen_from(leaves, first, read):
    theirs = {first + name: leaf for name, leaf in leaves.items()}
    with pytest.raises(ValueError, match=r"there are two of norm\.weight, as module\._orig_mod\.norm\.weight too"):
        read(MODEL, theirs | {"module._orig_mod.norm.weight": leaves["norm.weight"] + 1})


def test_nothing_is_no_checkpoint():
    with pytest.raises(ValueError, match="timm's names: an empty dictionary, not tensors by name"):
        load_weights(MODEL, {})


def test_a_file_of_safetensors_by_another_name_is_read(leaves, tmp_path):
    save_file(leaves, tmp_path / "pytorch_model.bin")
    assert_same(load_weights(MODEL, tmp_path / "pytorch_model.bin")[0], leaves)


def test_a_flipped_bit_of_a_number_is_no_other_number(tmp_path):
    params = MODEL.init(blocks.key(0))
    path = checkpoint.save(tmp_path, {"params": params}, 1, {})
    assert_same(load_weights(MODEL, path)[0], tree.flatten(params))
    content = bytearray(path.read_bytes())
    content[content.index(params["patch_embed"]["proj"]["weight"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"step-00000001\.pt is damaged"):
        load_weights(MODEL, path)


@pytest.mark.parametrize("read", [lambda path: load_weights(MODEL, path), description_of, blocks.load])
def test_an_address_is_no_file_and_is_said_to_want_a_download(read):
    with pytest.raises(FileNotFoundError, match="download it, and give the file"):
        read("https://example.org/deit.pth")


@pytest.mark.parametrize(
    "text", ["<!DOCTYPE html><p>Not found</p>", "hello world", "version https://git-lfs\noid 3\n", ""]
)
def test_a_text_is_no_checkpoint_and_the_error_is_one_short_line(text, tmp_path):
    path = tmp_path / "model.pth"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"model\.pth is damaged") as error:
        load_weights(MODEL, path)
    said = str(error.value)
    assert "\n" not in said
    assert len(said.replace(str(path), "")) < 260
    assert "PyTorch 2.6" not in said


def test_a_path_for_a_state_dict_is_told_where_files_are_read():
    with pytest.raises(ValueError, match=r"a str is no state_dict; load_weights\(model, path\) reads files"):
        blocks.from_timm(MODEL, "model.pth")


def test_a_module_of_another_model_s_params_is_refused():
    other = blocks.vit(**VIT | {"depth": VIT["depth"] + 1})
    with pytest.raises(ValueError, match="these params have the layers"):
        blocks.to_module(MODEL, other.init(blocks.key(0)))
    with pytest.raises(ValueError, match="no layers below blocks"):
        blocks.to_module(MODEL, {"a": torch.ones(1)})
