"""Leaves without `flatten` agree with `flatten`."""

import attrs
import pytest
import torch

from blocks import tree
from blocks.tree import leaves, rebuild


@attrs.frozen(eq=False)
class Pair:
    left: object
    right: object


a, b, c = torch.zeros(1), torch.ones(2), torch.ones(3)
TREES = [{}, a, {"x": a, "deep": {"y": b, "none": {}, "z": {"w": c}}}, Pair({"x": a}, {"pair": Pair(b, {"y": c})})]


@pytest.mark.parametrize("example", TREES, ids=["empty", "bare", "dicts", "attrs"])
def test_leaves_come_in_the_order_of_flatten(example):
    flat = tree.flatten(example)
    assert all(x is y for x, y in zip(leaves(example), flat.values(), strict=True))


@pytest.mark.parametrize("example", TREES, ids=["empty", "bare", "dicts", "attrs"])
def test_rebuild_puts_every_leaf_in_its_place(example):
    new = {name: leaf + 1 for name, leaf in tree.flatten(example).items()}
    built = rebuild(example, iter(new.values()))
    assert all(tree.flatten(built)[name] is leaf for name, leaf in new.items())


def test_what_is_no_tensor_is_an_error():
    with pytest.raises(TypeError, match="not int"):
        leaves({"x": 3})
