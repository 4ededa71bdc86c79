"""Many entries in few words, none lost."""

from blocks.interop.entries import every, some


def test_layers_that_have_the_same_are_said_at_once():
    names = [f"blocks.{i}.norm{j}.bias [8]" for i in (0, 1, 2, 5, 11, 12) for j in (1, 2)]
    assert every(names) == "blocks.{0..2,5,11..12}.norm1.bias [8], blocks.{0..2,5,11..12}.norm2.bias [8]"


def test_what_differs_otherwise_is_said_alone():
    names = ["head.0.weight [3]", "head.1.weight [4]", "head.bias", "norm.bias", "a.3.b.4.c", "a.3.b.5.c"]
    assert every(names) == ", ".join(names)


def test_a_summary_says_how_many_more_there_are():
    assert some("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"
    assert some(f"blocks.{i}.bias" for i in range(12)) == "blocks.{0..11}.bias"
