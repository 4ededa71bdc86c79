import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from blocks import PositionEmbedding, key

SIZES = [(29, 29), (45, 45), (58, 58), (61, 61), (14, 20), (7, 31), (3, 2)]


@pytest.mark.parametrize("grid", SIZES)
@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_any_grid_is_met_as_timm_meets_it(grid, prefix):
    """29, 45, 58 and 61 are the grids where resizing by a scale factor comes out one short."""
    position = PositionEmbedding((14, 14), 8, prefix)
    params = position.init(key(0))
    resized = resample_abs_pos_embed(params, list(grid), [14, 14], num_prefix_tokens=prefix)
    assert torch.equal(position.resized(params, grid), resized)
    tokens = torch.zeros(2, prefix + grid[0] * grid[1], 8)
    assert torch.equal(position(params, tokens, grid=grid), resized.expand(2, -1, -1))


def test_an_embedding_of_a_non_square_grid_is_resized_too():
    position = PositionEmbedding((4, 6), 8, 1)
    params = position.init(key(0))
    assert torch.equal(position.resized(params, (5, 3)), resample_abs_pos_embed(params, [5, 3], [4, 6]))


def test_its_own_grid_leaves_it_as_it_is():
    position = PositionEmbedding((2, 3), 8, 1)
    params = position.init(key(0))
    assert torch.equal(position(params, torch.zeros(1, 7, 8), grid=(2, 3)), params)


def test_the_transposed_grid_is_another_grid():
    """As many tokens, other places: timm without `old_size` cannot tell."""
    position = PositionEmbedding((2, 3), 8)
    params = position.init(key(0))
    assert not torch.equal(position(params, torch.zeros(1, 6, 8), grid=(3, 2)), params)


def test_half_precision_is_resized_in_single():
    position = PositionEmbedding((4, 4), 8, 1)
    params = position.init(key(0)).bfloat16()
    resized = position.resized(params, (5, 5))
    assert resized.dtype == torch.bfloat16
    assert torch.equal(resized, position.resized(params.float(), (5, 5)).bfloat16())
