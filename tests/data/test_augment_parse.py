import attrs
import pytest
import timm.data.auto_augment as theirs

from blocks.data.augment import AutoAugment, RandAugment, ThreeAugment, policy


def test_the_recipe_of_deit_and_convit_is_the_default():
    assert policy("rand-m9-mstd0.5-inc1") == RandAugment()


@pytest.mark.parametrize(
    "text", ["rand", "rand-m9-mstd0.5-inc1", "rand-m15-n3-p0.7-mmax20", "rand-inc0-m7", "rand-n1-mstd101"]
)
def test_a_string_means_what_it_means_to_timm(text):
    ours, timms = policy(text), theirs.rand_augment_transform(text, {})
    step = timms.ops[4]
    assert (ours.num_ops, ours.magnitude, ours.prob) == (timms.num_layers, step.magnitude, step.prob)
    assert (ours.mstd, ours.max_magnitude) == (step.magnitude_std, step.magnitude_max or 10)
    assert ours.increasing == (step.name == "PosterizeIncreasing")


def test_the_other_policies_have_names_too():
    assert policy("original-mstd0.5") == AutoAugment("original", mstd=0.5)
    assert policy("v0r") == AutoAugment("v0r")
    assert policy("3a") == ThreeAugment()


def test_settings_can_be_changed_afterwards():
    assert attrs.evolve(policy("rand-m9-mstd0.5-inc1"), num_ops=3) == RandAugment(num_ops=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "policy '' is not known; use rand, original"),
        ("rnd-m9", "'rnd-m9' is not known"),
        ("rand-x9", "part 'x9' of policy 'rand-x9' is not known"),
        ("rand-t3a", "part 't3a'"),
        ("rand-m", "part 'm'"),
        ("rand-m9-", "part ''"),
        ("rand-m9-m5", "part 'm5' .* comes twice"),
        ("rand-n1.5", "'n1.5' .* a whole number"),
        ("rand-inc2", "'inc2' .* 0 or 1"),
        ("rand-m11", "magnitude 11.0 is above"),
        ("v0-m9", "part 'm9'"),
        ("3a-m9", "'3a-m9' is not known"),
    ],
)
def test_a_string_that_says_something_else_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        policy(text)
