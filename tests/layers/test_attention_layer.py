import pytest
import torch
from torch import nn

from blocks import GPSA, Attention, key, tree


def test_attention_is_torch_s_multi_head_attention():
    attention = Attention(12, 3)
    params, x = tree.cast(attention.init(key(0)), torch.float64), torch.randn(2, 5, 12, dtype=torch.float64)
    torchs = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(params["qkv"]["weight"])
        torchs.in_proj_bias.copy_(params["qkv"]["bias"])
        torchs.out_proj.load_state_dict(params["proj"])
    torch.testing.assert_close(attention(params, x), torchs(x, x, x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [Attention, GPSA])
def test_qk_scale_takes_the_place_of_the_root_of_the_head_s_width(block):
    x, options = torch.randn(2, 6, 8), {"grid": (2, 3)}
    params = tree.map(lambda p: 10 * p, block(8, 2).init(key(0)))
    default, same, other = (block(8, 2, qk_scale=scale)(params, x, **options) for scale in (None, 0.5, 0.9))
    torch.testing.assert_close(default, same)
    assert not torch.allclose(default, other)


@pytest.mark.parametrize("block", [Attention, GPSA])
def test_heads_that_do_not_share_the_width_are_an_error_with_the_way_out(block):
    with pytest.raises(ValueError, match="embed_dim 190 is not a multiple of num_heads 4; 188 and 192 are"):
        block(190, 4)
    with pytest.raises(ValueError, match="num_heads 0"):
        block(190, 0)
    with pytest.raises(ValueError, match="embed_dim 3 is not a multiple of num_heads 4; 4 is"):
        block(3, 4)
    with pytest.raises(ValueError, match="embed_dim 0 is not a multiple of num_heads 4; 4 is"):
        block(0, 4)


@pytest.mark.parametrize("block", [Attention, GPSA])
def test_attention_dropout_keeps_the_mean(block):
    x, grid = torch.randn(1, 6, 8), (2, 3)
    layer = block(8, 2, attn_drop=0.5)
    params = tree.map(lambda p: 10 * p, layer.init(key(0)))
    dropped = layer(params, x.expand(4000, -1, -1), grid=grid, key=key(1))
    spread = dropped.std(0) / 4000**0.5
    assert ((dropped.mean(0) - layer(params, x, grid=grid)[0]).abs() < 5 * spread + 1e-5).all()
