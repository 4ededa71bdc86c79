"""Trees: dotted names and back, and the same tree with other leaves."""

import attrs
import pytest
import torch

from blocks import tree


@attrs.frozen(eq=False)
class Pair:
    first: tree.Tree
    second: tree.Tree


def leaves(count):
    return [torch.full((i + 1,), float(i)) for i in range(count)]


def nested():
    a, b, c, d = leaves(4)
    return {"x": {"0": {"weight": a}, "1": {}}, "pair": Pair(b, {"count": c.long()}), "y": d}


def test_leaves_have_dotted_names_in_order():
    flat = tree.flatten(nested())
    assert list(flat) == ["x.0.weight", "pair.first", "pair.second.count", "y"]
    assert [t.numel() for t in flat.values()] == [1, 2, 3, 4]


def test_a_bare_tensor_is_a_tree():
    (leaf,) = leaves(1)
    assert tree.flatten(leaf) == {"": leaf}
    assert tree.map(lambda t: t + 1, leaf) == 1


def test_unflatten_turns_flatten_back():
    a, b, c = leaves(3)
    original = {"blocks": {"0": {"weight": a, "bias": b}}, "cls": c}
    back = tree.unflatten(tree.flatten(original))
    assert back == original
    assert back["blocks"]["0"]["weight"] is a


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a"), ("a.b.c", "a.b")])
def test_a_name_that_is_leaf_and_node_is_an_error(names):
    with pytest.raises(ValueError, match=r"'a|'b'"):
        tree.unflatten(dict(zip(names, leaves(2), strict=True)))


def test_map_keeps_the_tree_and_its_classes():
    doubled = tree.map(lambda t: 2 * t, nested())
    assert isinstance(doubled["pair"], Pair)
    assert doubled["x"]["1"] == {}
    assert all(torch.equal(v, 2 * tree.flatten(nested())[n]) for n, v in tree.flatten(doubled).items())


def test_map_over_several_trees_meets_leaves_of_the_same_place():
    one = nested()
    total = tree.map(lambda a, b, c: a + b - c, one, tree.map(lambda t: 3 * t, one), one)
    assert all(torch.equal(v, 3 * tree.flatten(one)[n]) for n, v in tree.flatten(total).items())


def test_map_over_trees_of_different_names_is_an_error_that_names_both():
    a, b = leaves(2)
    with pytest.raises(ValueError, match=r"\['a'\] and \['b'\]"):
        tree.map(torch.add, {"a": a}, {"b": b})


def test_map_over_a_leaf_where_the_other_has_a_node_is_an_error():
    a, b = leaves(2)
    with pytest.raises(ValueError, match="trees differ"):
        tree.map(lambda *_: None, {"a": a}, {"a": {"b": b}})
    with pytest.raises(ValueError, match="trees differ"):
        tree.map(lambda *_: None, {"a": {"b": b}}, {"a": a})


def test_like_puts_named_leaves_into_the_templates_tree():
    found = tree.like(nested(), {n: t + 1 for n, t in reversed(tree.flatten(nested()).items())})
    assert isinstance(found["pair"], Pair)
    assert torch.equal(found["y"], nested()["y"] + 1)


def test_like_names_every_missing_unexpected_and_misshaped_leaf():
    given = tree.flatten(nested()) | {"y": torch.zeros(9), "extra": torch.zeros(5)}
    del given["pair.first"]
    with pytest.raises(ValueError, match=r"pair\.first") as error:
        tree.like(nested(), given)
    assert str(error.value).splitlines() == [
        "missing pair.first [2]",
        "unexpected extra [5]",
        "y: wanted [4], found [9]",
    ]


def test_cast_leaves_integers_alone_and_is_differentiable():
    low = tree.cast(nested(), torch.bfloat16)
    assert low["y"].dtype == torch.bfloat16
    assert low["pair"].second["count"].dtype == torch.int64
    x = torch.ones(3, requires_grad=True)
    (grad,) = torch.autograd.grad(tree.cast({"x": x}, torch.float64)["x"].sum(), x)
    assert torch.equal(grad, torch.ones(3))


def test_a_clone_shares_no_storage():
    one = nested()
    two = tree.clone(one)
    for a, b in zip(tree.flatten(one).values(), tree.flatten(two).values(), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
    assert not tree.clone(torch.ones(3, requires_grad=True)).requires_grad


def test_count_is_the_number_of_scalars():
    assert tree.count(nested()) == 10
    assert tree.count({}) == 0


def test_to_moves_every_leaf():
    assert {t.device.type for t in tree.flatten(tree.to(nested(), "meta")).values()} == {"meta"}


@pytest.mark.parametrize("stranger", [3, None, [torch.zeros(1)], "weight"])
def test_what_is_no_tree_is_a_type_error(stranger):
    with pytest.raises(TypeError, match=type(stranger).__name__):
        tree.flatten({"a": stranger})
