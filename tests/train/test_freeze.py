"""Frozen params: no gradient, no optimizer state, no change, and no graph."""

from functools import partial

import pytest
import torch

from blocks import tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.random import key
from blocks.train.freeze import trainable_names
from blocks.train.step import init_state, make_step
from blocks.trunks.convit import convit
from tests.train.small_problem import batch_of, net, same, setup

NAMES = ("cls_token", "blocks.0.attn.weight", "blocks.0.attn.bias", "head.weight", "head.bias")
KNOBS = {"accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.9}


@pytest.mark.parametrize(
    ("frozen", "left"),
    [
        ((), NAMES),
        (("blocks.*", "cls_token"), ("head.weight", "head.bias")),
        (("*.bias",), ("cls_token", "blocks.0.attn.weight", "head.weight")),
        (("*", "!head.*"), ("head.weight", "head.bias")),
    ],
)
def test_patterns_freeze_whole_names_and_an_exclamation_mark_frees(frozen, left):
    assert trainable_names(NAMES, frozen) == left


def test_a_pattern_without_a_match_is_an_error_that_names_it():
    objective, optimizer, state = setup(ema=False)
    with pytest.raises(ValueError, match=r"'fc3\.\*' matches no parameter"):
        init_state(objective, optimizer, key(3), frozen=["fc1.*", "fc3.*"])
    with pytest.raises(ValueError, match=r"'fc3\.\*' matches no parameter"):
        make_step(objective, optimizer, frozen=["*", "!fc3.*"])(state, batch_of())


def test_a_pattern_that_is_no_tuple_is_not_taken_letter_by_letter():
    objective, optimizer, _ = setup()
    for make in (partial(init_state, key=key(3)), make_step):
        with pytest.raises(ValueError, match=r"'fc1\.\*' is one string; give a tuple of name patterns"):
            make(objective, optimizer, frozen="fc1.*")


def test_nothing_left_to_train_is_an_error():
    with pytest.raises(ValueError, match=r"\['\*'\] leaves none of 5 parameters"):
        trainable_names(NAMES, ("*",))


def start(frozen, **knobs):
    objective, optimizer, _ = setup()
    state = init_state(objective, optimizer, key(3), ema="ema_decay" in knobs, frozen=frozen)
    return objective, optimizer, state


@pytest.mark.parametrize("knobs", [{}, KNOBS, {**KNOBS, "precision": "bfloat16"}, {**KNOBS, "donate": True}])
def test_frozen_params_stay_bit_for_bit_and_the_others_move_as_if_nothing_were_frozen(knobs):
    """Not with clipping, whose norm is that of the trained params alone."""
    free = {**knobs, "clip_norm": None}
    objective, optimizer, state = start(("fc1.*", "spare.*"), **knobs)
    whole = init_state(objective, optimizer, key(3), ema="ema_decay" in knobs)
    first = tree.clone(state)
    one, _ = make_step(objective, optimizer, frozen=("fc1.*", "spare.*"), **free)(state, batch_of())
    other, _ = make_step(objective, optimizer, **free)(whole, batch_of())
    for name in ("fc1", "spare"):
        assert same(one.params[name], first.params[name])
        assert not one.ema or same(one.ema[name], first.params[name])
    assert same(one.params["fc2"], other.params["fc2"])
    assert not same(one.params["fc2"], first.params["fc2"])
    assert not one.ema or same(one.ema["fc2"], other.ema["fc2"])


def test_the_optimizer_holds_nothing_for_frozen_params_and_the_norm_is_of_the_trained_ones():
    objective, optimizer, state = start(("fc1.*", "spare.*"))
    assert list(state.optimizer["exp_avg"]) == ["fc2.weight", "fc2.bias"]
    _, metrics = make_step(objective, optimizer, frozen=("fc1.*", "spare.*"))(state, batch_of())
    _, whole = make_step(objective, optimizer)(init_state(objective, optimizer, key(3)), batch_of())
    assert 0 < metrics["grad_norm"] < whole["grad_norm"]


@pytest.mark.parametrize(("state_s", "step_s"), [((), ("fc1.*",)), (("fc1.*",), ()), (("fc1.*",), ("fc2.*",))])
@pytest.mark.parametrize("donate", [False, True])
def test_a_state_and_a_step_that_disagree_about_the_frozen_are_an_error(state_s, step_s, donate):
    objective, optimizer, state = start(state_s)
    before = tree.clone(state)
    with pytest.raises(ValueError, match=r"optimizer's state is not one for the . trained parameters.*same frozen="):
        make_step(objective, optimizer, frozen=step_s, donate=donate)(state, batch_of())
    assert same(state, before)


def saved_bytes(frozen):
    """Bytes that one step's forward pass keeps for the backward pass."""
    model = convit(img_size=8, patch_size=4, num_classes=5, embed_dim=16, depth=2, num_heads=2, local_up_to_layer=1)
    objective, optimizer = Supervised(model), adamw(1e-3)
    state = init_state(objective, optimizer, key(0), frozen=frozen)
    kept = []
    batch = {"images": torch.randn(4, 3, 8, 8), "labels": torch.arange(4)}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.nbytes), t)[1], lambda t: t):
        make_step(objective, optimizer, frozen=frozen)(state, batch)
    return sum(kept)


def test_a_frozen_trunk_builds_no_graph():
    """A linear probe keeps the head's input, its weight and the logits, and nothing of the layers below."""
    features, weight, log_probs, labels = 4 * 16 * 4, 5 * 16 * 4, 4 * 5 * 4, 4 * 8
    assert saved_bytes(("*", "!head.*")) <= features + weight + 2 * log_probs + labels + 64
    assert saved_bytes(()) > 20 * saved_bytes(("*", "!head.*"))


def test_given_params_take_the_place_of_fresh_ones_and_are_copied():
    objective, optimizer, _ = setup(objective=Supervised(net()))
    given = tree.map(torch.ones_like, net().init(key(0)))
    state = init_state(objective, optimizer, key(3), params=given, ema=True)
    assert same(state.params, given)
    assert same(state.ema, given)
    make_step(objective, optimizer, ema_decay=0.9, donate=True)(state, batch_of())
    assert same(given, tree.map(torch.ones_like, given))
    del given["fc1"]["bias"]
    with pytest.raises(ValueError, match=r"missing fc1.bias \[16\]"):
        init_state(objective, optimizer, key(3), params=given)
