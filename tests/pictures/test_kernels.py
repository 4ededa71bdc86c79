import pytest
import torch

from blocks import convit, key, vit
from blocks.pictures.locality import position_kernels
from tests.pictures.test_attention_maps import MODELS, SMALL, disturbed


def test_kernels_are_the_softmax_of_distances_to_each_head_s_target():
    """Nine heads of strength 1 start as gaussians at the places of a 3 x 3 kernel, columns first."""
    model = convit(**SMALL | dict(embed_dim=18, num_heads=9), local_up_to_layer=2)
    kernels = position_kernels(model, model.init(key(0)), (6, 5))
    assert kernels.shape == (2, 9, 7, 5)
    y, x = torch.meshgrid(torch.arange(7.0) - 3, torch.arange(5.0) - 2, indexing="ij")
    for head, kernel in enumerate(kernels[1]):
        right, down = head // 3 - 1, head % 3 - 1
        wanted = torch.exp(-((y - down) ** 2) - (x - right) ** 2)
        torch.testing.assert_close(kernel, wanted / wanted.sum())


@pytest.mark.parametrize(("name", "layers"), [("convit", 2), ("convit, class token in local layers", 2)])
def test_kernels_of_trained_params_follow_their_weights_and_sum_to_1(name, layers):
    params = disturbed(MODELS[name])
    kernels = position_kernels(MODELS[name], params, (3, 4))
    assert kernels.shape == (layers, 4, 3, 5)
    torch.testing.assert_close(kernels.sum((2, 3)), torch.ones(layers, 4, dtype=torch.float64))
    to_x, to_y, to_square = params["blocks"]["1"]["attn"]["pos_proj"]["weight"][2]
    right_of_it, below_it, here = kernels[1, 2, 1, 3], kernels[1, 2, 2, 2], kernels[1, 2, 1, 2]
    torch.testing.assert_close((right_of_it / here).log(), to_x + to_square)
    torch.testing.assert_close((below_it / here).log(), to_y + to_square)


def test_a_vit_has_no_kernels():
    model = vit(**SMALL)
    assert position_kernels(model, model.init(key(0)), (3, 4)).shape == (0, 0, 3, 5)
