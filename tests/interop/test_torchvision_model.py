"""torchvision's classifiers as blocks."""

import pytest
import torch
import torchvision.models

from blocks import key, tree
from blocks.interop.torchvision_model import torchvision_model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_one_with_weights_computes_what_the_module_does(tmp_path):
    module = torchvision.models.resnet18(num_classes=5).eval()
    torch.save(module.state_dict(), tmp_path / "resnet.pth")
    block, params = torchvision_model("resnet18", 5, tmp_path / "resnet.pth")
    assert torch.equal(block(params, IMAGES), module(IMAGES))
    with pytest.raises(ValueError, match=r"(?s)resnet\.pth holds no resnet18 of so many classes: .*fc\.weight"):
        torchvision_model("resnet18", 7, tmp_path / "resnet.pth")


def test_one_to_be_trained_has_no_buffers():
    block, params = torchvision_model("resnet18", 5)
    assert params is None
    assert block.buffer_names == ()
    fresh = tree.map(torch.Tensor.requires_grad_, block.init(key(0)))
    assert block(fresh, IMAGES).shape == (2, 5)


@pytest.mark.parametrize(("name", "words"), [("resnet", "no 'resnet'"), ("vgg11", "vgg11 cannot be trained here")])
def test_others_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        torchvision_model(name, 5)
