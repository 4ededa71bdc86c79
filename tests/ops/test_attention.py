"""Plain attention: the fused kernel, and the explicit form that drops weights by key."""

import torch

from blocks.ops.attention import attention, attention_weights
from blocks.random import key, normal, per_sample, split


def qkv(dtype=torch.float64):
    return [normal(k, (3, 2, 5, 4), dtype) for k in split(key(3), 3)]


def test_it_equals_the_explicit_softmax_with_its_scale():
    q, k, v = qkv()
    for scale in (None, 0.7):
        explicit = attention_weights(q, k, scale) @ v
        torch.testing.assert_close(attention(q, k, v, scale=scale), explicit, rtol=1e-12, atol=1e-12)


def test_without_a_key_nothing_is_dropped():
    q, k, v = qkv()
    assert torch.equal(attention(q, k, v, drop=0.5), attention(q, k, v))
    assert torch.equal(attention(q, k, v, key=key(0)), attention(q, k, v))


def test_a_samples_mask_depends_on_its_key_alone():
    q, k, v = qkv()
    whole = attention(q, k, v, drop=0.5, key=key(4))
    keys = per_sample(key(4), 3)
    part = attention(q[1:], k[1:], v[1:], drop=0.5, key=keys[1:])
    torch.testing.assert_close(whole[1:], part, rtol=1e-14, atol=1e-14)
    assert not torch.allclose(whole, attention(q, k, v, drop=0.5, key=key(5)))


def test_dropped_attention_has_the_plain_ones_mean():
    q, k, v = (x[:1].expand(1000, -1, -1, -1) for x in qkv())
    dropped = attention(q, k, v, drop=0.3, key=key(6))
    error = dropped.std(0) / 1000**0.5
    assert ((dropped.mean(0) - attention(q, k, v)[0]).abs() < 5 * error).all()
