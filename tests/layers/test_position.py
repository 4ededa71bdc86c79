import math

import pytest
import torch
from timm.layers import build_sincos2d_pos_embed
from timm.layers.pos_embed import resample_abs_pos_embed

from blocks import PositionEmbedding, key, tree
from blocks.layers.position import SinCosPosition

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


def test_an_embedding_starts_normal_with_deviation_02():
    found = PositionEmbedding((14, 14), 64, 1).init(key(0))
    assert found.std() == pytest.approx(0.02, rel=0.025)  # 4 deviations of 12,608 draws
    assert found.mean().abs() < 4 * 0.02 / found.numel() ** 0.5


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


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (14, 14)])
@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_fixed_positions_are_timm_s_with_the_column_first(grid, prefix):
    timms = build_sincos2d_pos_embed(list(grid), 16, reverse_coord=True, interleave_sin_cos=True)  # x by x
    timms = timms.unflatten(0, grid[::-1]).transpose(0, 1).flatten(0, 1)
    found = SinCosPosition((3, 3), 16, prefix)({}, torch.zeros(2, prefix + grid[0] * grid[1], 16), grid=grid)
    assert not found[:, :prefix].any()
    torch.testing.assert_close(found[1, prefix:], timms, rtol=1e-5, atol=2e-6)  # its angles are float32


def test_a_fixed_position_is_the_formula_s_number():
    table = SinCosPosition((3, 4), 8, 1).table((3, 4), torch.float64)
    x, y, slow = 3, 2, 10000 ** (-1 / 2)
    expected = [math.sin(x), math.sin(x * slow), math.cos(x), math.cos(x * slow)]
    expected += [math.sin(y), math.sin(y * slow), math.cos(y), math.cos(y * slow)]
    assert table[0, 1 + 4 * y + x].tolist() == pytest.approx(expected, abs=1e-12)


def test_fixed_positions_have_no_params_and_keep_the_tokens_type():
    position = SinCosPosition((2, 3), 8)
    assert not tree.flatten(position.init(key(0)))
    for dtype in (torch.bfloat16, torch.float64):
        assert position({}, torch.zeros(1, 6, 8, dtype=dtype)).dtype == dtype


def test_a_width_that_two_axes_of_sines_and_cosines_do_not_share_is_an_error():
    with pytest.raises(ValueError, match=r"embed_dim 10 is not a multiple of 4.*use 8"):
        SinCosPosition((2, 2), 10)
