"""The masked autoencoder's decoder against the paper's description, token by token."""

import pytest
import torch

from blocks import Dropout, Model, TokenPool, convit, key, tree, vit
from blocks.random import per_sample
from blocks.trunks.distilled import distilled
from blocks.trunks.mae_decoder import mae_decoder

TINY = {"img_size": 8, "patch_size": 4, "num_classes": 0, "embed_dim": 8, "num_heads": 2, "depth": 2}
SMALL = {"embed_dim": 12, "depth": 2, "num_heads": 3}
KEEP = torch.tensor([[0, 3, 4], [5, 2, 1]])


def start(model=None, **knobs):
    decoder = mae_decoder(model or vit(**TINY), **SMALL | knobs)
    params = tree.map(lambda p: 3 * p.double(), decoder.init(key(0)))
    return decoder, params


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_tokens_stand_at_their_places_among_mask_tokens(prefix):
    decoder, params = start()
    x = torch.randn(2, prefix + 3, 8, dtype=torch.float64)
    embedded = decoder.decoder_embed(params["decoder_embed"], x)
    table = decoder.decoder_pos_embed.table((2, 3), torch.float64)[0]
    samples = []
    for b in range(2):
        rows = [
            embedded[b, prefix + list(KEEP[b]).index(n)] if n in KEEP[b] else params["mask_token"][0, 0]
            for n in range(6)
        ]
        samples.append(torch.cat((embedded[b, :prefix], torch.stack(rows) + table)))
    y = torch.stack(samples)
    for i, layer in enumerate(decoder.decoder_blocks):
        y = layer(params["decoder_blocks"][str(i)], y)
    y = decoder.decoder_norm(params["decoder_norm"], y[:, prefix:])
    expected = y @ params["decoder_pred"]["weight"].T + params["decoder_pred"]["bias"]
    found = decoder(params, x, grid=(2, 3), keep=KEEP)
    assert found.shape == (2, 6, 48)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_its_names_are_mae_s():
    _, params = start()
    names = {name.split(".")[0] for name in tree.flatten(params)}
    assert names == {"decoder_embed", "mask_token", "decoder_blocks", "decoder_norm", "decoder_pred"}
    assert params["mask_token"].shape == (1, 1, 12)
    assert params["decoder_blocks"]["0"]["attn"]["qkv"]["bias"].shape == (36,)


@pytest.mark.parametrize("model", [vit(**TINY), convit(**TINY, local_up_to_layer=1), distilled(vit(**TINY))])
def test_it_fits_any_trunk_of_parts(model):
    decoder, params = start(model)
    params["model"] = tree.cast(model.init(key(1)), torch.float64)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    patches = model.trunk.embed(params["model"], images)
    tokens = model.trunk.encode(params["model"], patches, grid=(2, 3), keep=KEEP)
    assert decoder(params, tokens, grid=(2, 3), keep=KEEP).shape == (2, 6, 48)


def test_drop_path_in_the_decoder_follows_the_samples_keys():
    decoder, params = start(drop_path_rate=0.5)
    x, keys = torch.randn(2, 4, 8, dtype=torch.float64), per_sample(key(2), 2)
    whole = decoder(params, x, grid=(2, 3), keep=KEEP, key=keys)
    assert decoder.is_random
    assert not start()[0].is_random
    torch.testing.assert_close(whole[1:], decoder(params, x[1:], grid=(2, 3), keep=KEEP[1:], key=keys[1:]))


def test_the_published_decoder_has_its_published_size():
    """Eight layers of width 512 and what stands around them, for ViT-B's 768 and patches of 16 x 16 x 3."""
    model = vit(num_classes=0)
    layer = 4 * 512 + 3 * 512 * 513 + 512 * 513 + 2048 * 513 + 512 * 2049
    others = 512 * 769 + 512 + 2 * 512 + 768 * 513
    assert tree.count(mae_decoder(model, depth=1).init(key(0, device="meta"))) == layer + others
    assert len(mae_decoder(model).decoder_blocks) == 8


def test_errors_say_what_is_missing():
    decoder, params = start()
    for known in ({}, {"grid": (2, 3)}, {"keep": KEEP}):
        with pytest.raises(ValueError, match="the decoder wants both"):
            decoder(params, torch.zeros(2, 4, 8), **known)
    with pytest.raises(ValueError, match="a Dropout does not say its patches"):
        mae_decoder(Model(Dropout(0.5), TokenPool()))
    with pytest.raises(ValueError, match="embed_dim 16 is not a multiple of num_heads 3"):
        mae_decoder(vit(**TINY), embed_dim=16, num_heads=3)
