import torch

from blocks import Dropout, Linear, Model, TokenPool, key


def test_dropout_before_the_head_is_independent_of_dropout_in_the_trunk():
    """Of ones dropped twice at one half a quarter is left; with one mask used twice it would be a half."""
    model = Model(Dropout(0.5), TokenPool(), Linear(64, 64), head_drop=0.5)
    params = {"head": {"weight": torch.eye(64), "bias": torch.zeros(64)}}
    kept = model(params, torch.ones(200, 1, 64), key=key(0)) != 0
    assert 0.23 < kept.float().mean() < 0.27


def test_features_are_what_the_head_is_given():
    model = Model(Dropout(0.5), TokenPool(), Linear(8, 3))
    params, x = model.init(key(0)), torch.randn(2, 5, 8)
    assert torch.equal(model(params, x), model.head(params["head"], model.features(params, x)))
