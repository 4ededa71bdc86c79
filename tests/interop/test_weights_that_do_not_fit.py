"""Fine-tuning: what is resized, what starts afresh, what is left out, and what is an error."""

import json
from itertools import product

import pytest
import torch
from timm.layers import resample_abs_pos_embed

import blocks
from blocks import key, tree
from blocks.interop.checkpoints import Report, load_weights
from blocks.interop.construction import describe
from tests.interop.timms import CONVIT, VIT, assert_same, images, saved, timms, timms_convit


def test_another_image_size_resizes_the_position_embedding_as_timm_does_and_keeps_the_prefix():
    weights = timms().state_dict()
    params, report = load_weights(blocks.vit(**VIT | {"img_size": (12, 28)}), weights)
    expected = resample_abs_pos_embed(weights["pos_embed"], (3, 7), (4, 4), num_prefix_tokens=1)
    torch.testing.assert_close(params["pos_embed"], expected, rtol=0, atol=1e-6)
    assert torch.equal(params["pos_embed"][:, 0], weights["pos_embed"][:, 0])
    assert report.resized == ("pos_embed: 4 x 4 patches to 3 x 7",)


def test_a_model_of_another_size_has_the_logits_that_the_first_has_at_that_size():
    """The embedding resized when loaded is the one resized in the forward pass."""
    weights = timms().state_dict()
    small, large = blocks.vit(**VIT), blocks.vit(**VIT | {"img_size": 24})
    expected = small(load_weights(small, weights)[0], images(24))
    assert torch.equal(large(load_weights(large, weights)[0], images(24)), expected)


def test_convit_s_positions_need_nothing_but_the_resized_embedding():
    weights = timms_convit().state_dict()
    model = blocks.convit(**CONVIT | {"img_size": 24})
    params, report = load_weights(model, weights)
    assert params["pos_embed"].shape == (1, 36, 16)
    assert report.resized == ("pos_embed: 4 x 4 patches to 6 x 6",)
    assert report.read == tuple(tree.flatten(params))
    assert model(params, images(24)).shape == (2, 5)


def test_a_grid_that_was_no_square_is_asked_for():
    weights = timms(img_size=(8, 20)).state_dict()  # 2 x 5 patches
    model = blocks.vit(**VIT)
    with pytest.raises(ValueError, match=r"11 rows are not those of a square grid after 1 prefix.*give grid="):
        load_weights(model, weights)
    with pytest.raises(ValueError, match="11 rows are not those of grid 3 x 5"):
        load_weights(model, weights, grid=(3, 5))
    params, report = load_weights(model, weights, grid=(2, 5))
    expected = resample_abs_pos_embed(weights["pos_embed"], (4, 4), (2, 5), num_prefix_tokens=1)
    torch.testing.assert_close(params["pos_embed"], expected, rtol=0, atol=1e-6)
    assert report.resized == ("pos_embed: 2 x 5 patches to 4 x 4",)


def test_files_of_our_own_say_their_grid(tmp_path):
    """24 patches and a class token have as many rows as 5 x 5 patches alone, and as a grid that is turned."""
    narrow = blocks.vit(**VIT | {"img_size": (24, 16)})
    params = narrow.init(key(0))
    blocks.save(tmp_path / "own.safetensors", narrow, params)
    torch.save({"state": {f"params.{n}": t for n, t in tree.flatten(params).items()}, "about": {}}, tmp_path / "run.pt")
    (tmp_path / "model.json").write_text(json.dumps({"model": describe(narrow)}))
    for name, size, grid in product(("own.safetensors", "run.pt"), ((16, 24), (24, 24)), (None, (6, 4))):
        fitted, report = load_weights(blocks.vit(**VIT | {"img_size": size}), tmp_path / name, grid=grid)
        expected = resample_abs_pos_embed(params["pos_embed"], [side // 4 for side in size], (6, 4))
        torch.testing.assert_close(fitted["pos_embed"], expected, rtol=0, atol=1e-6)
        assert report.resized == (f"pos_embed: 6 x 4 patches to {size[0] // 4} x {size[1] // 4}",)


def test_another_number_of_classes_is_an_error_until_a_new_head_is_asked_for():
    weights = timms().state_dict()
    model = blocks.vit(**VIT | {"num_classes": 7})
    with pytest.raises(ValueError, match=r"head\.weight: wanted \[7, 12\], found \[5, 12\]") as error:
        load_weights(model, weights)
    assert 'head="new" starts the head afresh' in str(error.value)
    for head in ("new", "fit"):
        params, report = load_weights(model, weights, key=key(4), head=head)
        expected = {n: t for n, t in weights.items() if not n.startswith("head.")}
        start = tree.flatten(model.init(key(4)))
        assert_same(params, expected | {n: t for n, t in start.items() if n.startswith("head.")})
        assert report.fresh == report.left == ("head.weight", "head.bias")


def test_a_head_that_fits_is_kept_or_new_as_asked():
    weights, model = timms().state_dict(), blocks.vit(**VIT)
    assert_same(load_weights(model, weights, head="fit")[0], dict(weights))
    params, _ = load_weights(model, weights, head="new", key=key(0))
    assert not torch.equal(params["head"]["weight"], weights["head.weight"])
    with pytest.raises(ValueError, match=r"head\.bias, head\.weight start afresh: give key="):
        load_weights(model, weights, head="new")
    with pytest.raises(ValueError, match="head 'zero' is not known"):
        load_weights(model, weights, head="zero")


def test_a_model_without_a_head_leaves_the_file_s_out():
    model = blocks.vit(**VIT | {"num_classes": 0})
    with pytest.raises(ValueError, match=r"unexpected: head\.weight \[5, 12\], head\.bias \[5\]"):
        load_weights(model, timms().state_dict())
    _, report = load_weights(model, timms().state_dict(), head="new")
    assert (report.fresh, report.left) == ((), ("head.weight", "head.bias"))


def test_what_does_not_fit_is_named_at_once():
    weights = timms().state_dict()
    del weights["norm.bias"], weights["blocks.0.attn.qkv.bias"]
    weights |= {"extra": torch.zeros(2), "patch_embed.proj.weight": torch.zeros(12, 1, 4, 4)}
    with pytest.raises(ValueError, match="do not fit the model") as error:
        load_weights(blocks.vit(**VIT), weights)
    assert str(error.value).splitlines()[1:4] == [
        "missing: blocks.0.attn.qkv.bias [36], norm.bias [12]",
        "unexpected: extra [2]",
        "of another shape: patch_embed.proj.weight: wanted [12, 3, 4, 4], found [12, 1, 4, 4]",
    ]


def test_positions_of_other_axes_are_named():
    weights = timms().state_dict()
    weights["pos_embed"] = weights["pos_embed"][0]
    with pytest.raises(ValueError, match=r"of another shape: pos_embed: wanted \[1, 17, 12\], found \[17, 12\]"):
        load_weights(blocks.vit(**VIT), weights)


def test_a_file_of_another_family_is_said_to_be_one_before_its_positions_are():
    with pytest.raises(ValueError, match=r"missing: blocks\.0\.attn\.qk\.weight \[32, 16\].*\nunexpected: "):
        load_weights(blocks.convit(**CONVIT), timms(embed_dim=16, num_heads=4).state_dict())


def test_patterns_allow_what_is_missing_and_what_is_too_much():
    """From class token to mean: `norm` is left out, `fc_norm` is new."""
    weights, model = timms().state_dict(), blocks.vit(**VIT | {"global_pool": "avg"})
    params, report = load_weights(model, weights, key=key(0), fresh=["fc_norm.*"], ignore=["norm.*"])
    assert report.fresh == ("fc_norm.weight", "fc_norm.bias")
    assert report.left == ("norm.weight", "norm.bias")
    assert torch.equal(params["fc_norm"]["weight"], torch.ones(12))
    with pytest.raises(ValueError, match=r"missing: fc_norm.weight \[12\], fc_norm.bias \[12\]\nunexpected: norm"):
        load_weights(model, weights)


@pytest.mark.parametrize(("knob", "whose"), [("fresh", "the model"), ("ignore", "the file")])
def test_a_pattern_without_a_match_is_an_error(knob, whose):
    with pytest.raises(ValueError, match=rf"'haed\.\*' matches no name of {whose}; those begin with .*, head"):
        load_weights(blocks.vit(**VIT), timms().state_dict(), key=key(0), **{knob: ["haed.*"]})


def test_a_fresh_leaf_is_fresh_though_the_file_has_it():
    model, weights = blocks.vit(**VIT), timms().state_dict()
    params, report = load_weights(model, weights, key=key(5), fresh=["pos_embed"])
    assert torch.equal(params["pos_embed"], model.init(key(5))["pos_embed"])
    assert (report.fresh, report.left, report.resized) == (("pos_embed",), ("pos_embed",), ())


def test_the_report_prints_a_few_lines():
    weights = timms().state_dict()
    _, report = load_weights(blocks.vit(**VIT | {"img_size": 24, "num_classes": 3}), weights, head="new", key=key(0))
    assert str(report) == (
        "30 leaves from a dictionary (timm's names)\n"
        "  resized: pos_embed: 4 x 4 patches to 6 x 6\n"
        "  fresh: head.weight, head.bias\n"
        "  left out: head.weight, head.bias"
    )
    names = tuple("abcdefghij")
    assert "fresh: a, b, c, d, e, f, g, h and 2 more" in str(Report("x.pth", "VISSL", (), (), names, ()))


def test_what_is_no_checkpoint_is_said(tmp_path):
    model = blocks.vit(**VIT)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_weights(model, tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(saved(timms().state_dict(), tmp_path / "a.pth").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cut\.pth is damaged"):
        load_weights(model, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="holds more than tensors and plain values"):
        load_weights(model, saved({"model": timms()}, tmp_path / "pickled.pth"))
    with pytest.raises(ValueError, match="a list is no checkpoint"):
        load_weights(model, saved([1], tmp_path / "list.pth"))
    with pytest.raises(ValueError, match=r"\['epoch'\], not tensors by name"):
        load_weights(model, {"epoch": 3})
    with pytest.raises(ValueError, match="which 'mean' is not known"):
        load_weights(model, {}, which="mean")


def test_an_error_names_every_entry_however_many_there_are():
    weights = timms(depth=6).state_dict() | {f"more{i}": torch.zeros(i) for i in range(20)}
    del weights["blocks.5.norm1.bias"]
    missing = [n for n in weights if ".qkv." in n]
    with pytest.raises(ValueError, match="do not fit") as error:
        load_weights(blocks.vit(**VIT | {"depth": 6}), {n: t for n, t in weights.items() if n not in missing})
    assert all(f"more{i} [{i}]" in str(error.value) for i in range(20))
    layers = "blocks.{0..5}.attn.qkv.weight [36, 12], blocks.{0..5}.attn.qkv.bias [36]"
    assert f"missing: {layers}, blocks.5.norm1.bias [12]\n" in str(error.value)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["model.pth", "model.torch", "model.safetensors"])
def test_a_hostile_file_runs_nothing(name, legacy, tmp_path):
    content = {"model": timms().state_dict(), "args": Evil(tmp_path / "ran")}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="is damaged"):
        load_weights(blocks.vit(**VIT), tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_cut_file_is_said_to_be_damaged(legacy, share, tmp_path):
    torch.save(timms().state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.pth is damaged"):
        load_weights(blocks.vit(**VIT), tmp_path / "a.pth")


@pytest.mark.parametrize(("pooled", "theirs", "ours"), [("avg", "norm", "fc_norm"), ("token", "fc_norm", "norm")])
def test_a_model_that_pools_otherwise_starts_its_last_norm_afresh(pooled, theirs, ours):
    """As MAE is fine-tuned: over the mean, with a norm behind it."""
    made = {pool: blocks.vit(**VIT, global_pool=pool) for pool in ("token", "avg")}
    given = tree.flatten(made["token" if pooled == "avg" else "avg"].init(key(0)))
    given = {name: leaf + 1 for name, leaf in given.items()}
    params, report = load_weights(made[pooled], given, key=key(1), head="fit")
    assert report.fresh == (f"{ours}.weight", f"{ours}.bias")
    assert report.left == (f"{theirs}.weight", f"{theirs}.bias")
    found = tree.flatten(params)
    assert torch.equal(found.pop(f"{ours}.weight"), torch.ones(VIT["embed_dim"]))
    assert not found.pop(f"{ours}.bias").any()
    assert all(torch.equal(leaf, given[name]) for name, leaf in found.items())
    with pytest.raises(ValueError, match=rf"missing: {ours}\.weight"):
        load_weights(made[pooled], given)
