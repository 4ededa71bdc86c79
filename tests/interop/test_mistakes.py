"""What a new user gives by mistake: each is told in one line, where it is given, with the way out."""

import numpy as np
import pytest
import torch
from torch import nn

import blocks
from blocks import tree
from tests.interop.timms import VIT, images, saved

MODEL = blocks.vit(**VIT, drop_path_rate=0.1)
PARAMS = MODEL.init(blocks.key(0))
LEAVES = tree.flatten(PARAMS)
LAYER = {"blocks": {"0": PARAMS["blocks"]["0"]}}
MODULE = blocks.to_module(MODEL, PARAMS)
CONVOLUTION = blocks.trunk_from_module(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), 5)

CALLS = {
    "an int for a key": (lambda: MODEL(PARAMS, images(), key=3), r"key 3 is no key.*blocks\.key\(3\)"),
    "an int for init's key": (lambda: MODEL.init(0), r"key 0 is no key.*blocks\.key\(0\)"),
    "a generator for a key": (lambda: MODEL(PARAMS, images(), key=torch.Generator()), "Generator.*is no key"),
    "floats for a key": (lambda: MODEL(PARAMS, images(), key=torch.zeros(2)), r"key torch\.float32 \[2\] is no key"),
    "one number for a key": (lambda: MODEL(PARAMS, images(), key=torch.tensor(3)), r"key torch\.int64 \[\] is no key"),
    "an int to be split": (lambda: blocks.random.split(3), "key 3 is no key"),
    "an int to draw from": (lambda: blocks.random.normal(3), "key 3 is no key"),
    "a key that a module gets": (lambda: MODULE(images(), key=3), "key 3 is no key"),
    "a key to load with": (lambda: blocks.load_weights(MODEL, LEAVES, key=0), "key 0 is no key"),
    "half a seed": (lambda: blocks.key(0.5), r"seed 0\.5 is out of range; use a whole number"),
    "a word for a seed": (lambda: blocks.key("a"), "seed 'a' is out of range; use a whole number"),
    "a state_dict for params": (lambda: MODEL(LEAVES, images()), r"params are flat.*blocks\.from_timm\(model"),
    "no params": (lambda: MODEL(None, images()), r"params are a NoneType; give model\(params, images\)"),
    "images before params": (lambda: MODEL(images(), PARAMS), "params are a Tensor; give model"),
    "params without the head": (
        lambda: MODEL({name: node for name, node in PARAMS.items() if name != "head"}, images()),
        "params have no 'head', they have",
    ),
    "params of fewer layers": (lambda: MODEL(PARAMS | LAYER, images()), r"params have no '1', they have \['0'\]"),
    "features of flat params": (lambda: blocks.intermediate_layers(MODEL, LEAVES, images()), "params are flat"),
    "an array for images": (
        lambda: MODEL(PARAMS, np.zeros((1, 3, 16, 16), np.float32)),
        r"images are a ndarray; give a tensor \[B, 3, H, W\]",
    ),
    "channels last": (lambda: MODEL(PARAMS, images().movedim(1, -1)), r"permute\(0, 3, 1, 2\)"),
    "a module for weights": (lambda: blocks.load_weights(MODEL, MODULE), r"give its state_dict\(\)"),
    "weights before the model": (lambda: blocks.load_weights("x.pt", MODEL), "a str has no params to load"),
    "weights for a module": (lambda: blocks.load_weights(MODULE, LEAVES), "a ModelModule has no params to load"),
    "timm's weights of a module": (lambda: blocks.from_timm(MODEL, MODULE), r"give its state_dict\(\)"),
    "the model before the path": (lambda: blocks.save(MODEL, PARAMS, "x"), r"save\(path, model, params\): a Model"),
    "a module to be saved": (lambda: blocks.save("x", MODULE, PARAMS), r"save\(path, model, params\)"),
    "the model before the file": (
        lambda: blocks.to_onnx(MODEL, PARAMS, images(), "m.onnx"),
        r"to_onnx\(path, model, params, images\), in this order: path is a Model",
    ),
    "a module of flat params": (lambda: blocks.to_module(MODEL, LEAVES), r"flat: blocks\.from_timm\(model"),
    "a module of a module": (lambda: blocks.to_module(MODULE, PARAMS), "it is a module already"),
    "a block of a block": (lambda: blocks.from_module(MODEL), "a Model is a block already"),
    "a block of a class": (lambda: blocks.from_module(nn.Linear), "not the class Linear: call it"),
    "a trunk of a block": (lambda: blocks.trunk_from_module(MODEL, 5), "a Model is a block already"),
    "layers of a module trunk": (
        lambda: blocks.intermediate_layers(CONVOLUTION, CONVOLUTION.init(blocks.key(0)), images()),
        "a ModuleTrunk has no encoder layers of ours; give a model made by vit or convit",
    ),
    "statistics of a module's block": (
        lambda: blocks.with_statistics(blocks.from_module(nn.Linear(2, 2))[0], {}, [images()]),
        "a ModuleBlock has no statistics",
    ),
    "distilled twice": (lambda: blocks.distilled(blocks.distilled(MODEL)), "has a distillation token already"),
    "heads that do not share the width": (lambda: blocks.vit(embed_dim=190), "190 is not a multiple of num_heads 12"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_mistake_is_told_in_one_line(name):
    call, said = CALLS[name]
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("read", [lambda path: blocks.load_weights(MODEL, path), blocks.load, blocks.saved_metadata])
def test_a_run_s_folder_is_told_who_opens_it(read, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder, not a file; .* blocks\.Run\.open\('.*'\)\.params\(\)"):
        read(tmp_path)


def test_a_name_of_timm_s_is_no_path():
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at vit_base_patch16_224; .*timm\.create_model\(name"):
        blocks.load_weights(MODEL, "vit_base_patch16_224")


def test_a_pickle_of_tensors_does_not_say_its_model(tmp_path):
    path = saved(LEAVES, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"torch\.save wrote it, without its model: load_weights"):
        blocks.load(path)


def test_params_are_weights_too(tmp_path):
    for source in (PARAMS, {"model": PARAMS}, saved(PARAMS, tmp_path / "params.pt")):
        found, report = blocks.load_weights(MODEL, source)
        assert report.read == tuple(LEAVES)
        assert all(torch.equal(a, b) for a, b in zip(tree.leaves(found), LEAVES.values(), strict=True))


def test_layers_of_another_model_are_said_at_once():
    deeper = blocks.vit(**VIT | {"depth": 5})
    with pytest.raises(ValueError, match=r"unexpected blocks\.\{2\.\.4\}\.norm1\.weight \[12\]"):
        blocks.from_timm(MODEL, tree.flatten(deeper.init(blocks.key(0))))
