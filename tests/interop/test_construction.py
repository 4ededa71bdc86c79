"""Every block says what it is in plain values, and those make it again; nothing else is ever made."""

import json

import attrs
import pytest
import torch
import torch.nn.functional as F

import blocks
from blocks import Block, build, describe
from blocks.layers.dino_head import DinoHead
from blocks.layers.linear import Linear
from blocks.trunks import convit_variants, vit_variants
from tests.block_table import TABLE

DESCRIBABLE = [name for name in TABLE if name != "Compiled" and not name.startswith("Module")]  # those hold code
VARIANTS = [fn for module in (vit_variants, convit_variants) for fn in vars(module).values() if callable(fn)]
FACTORIES = {fn.__name__: fn for fn in VARIANTS if fn.__module__ in (vit_variants.__name__, convit_variants.__name__)}
HEADS = {
    name: getattr(blocks, name) for name in blocks.__all__ if name.startswith(("moco", "byol", "barlow", "vicreg"))
}


def through_json(block):
    return json.loads(json.dumps(describe(block)))


@pytest.mark.parametrize("name", DESCRIBABLE)
def test_every_block_of_the_table_comes_back_equal(name):
    block = TABLE[name].make()
    assert build(through_json(block)) == block


@pytest.mark.parametrize("name", FACTORIES)
def test_every_published_model_comes_back_equal(name):
    model = FACTORIES[name](drop_path_rate=0.1)
    assert build(through_json(model)) == model


@pytest.mark.parametrize("name", HEADS)
def test_every_published_head_comes_back_equal(name):
    head = getattr(blocks, name)(8)
    assert build(through_json(head)) == head


def test_a_description_shows_fields_and_none_of_what_the_class_makes_of_them():
    assert describe(Linear(3, 2, bias=False)) == {
        "block": "blocks.layers.linear.Linear",
        "in_features": 3,
        "out_features": 2,
        "bias": False,
        "std": 0.02,
    }
    assert describe(DinoHead(8, 4)).keys() & {"layers", "last_layer"} == set()


def test_a_field_that_an_older_description_lacks_has_its_default():
    assert build({"block": "blocks.layers.linear.Linear", "in_features": 3, "out_features": 2}) == Linear(3, 2)


@attrs.frozen
class Theirs(Block):
    _inner: object
    size: int = attrs.field(default=1, kw_only=True)


@attrs.frozen
class Confused(Block):
    block: Block


def test_a_block_of_one_s_own_is_built_once_its_package_is_trusted():
    block = Theirs((Linear(2, 2), None, (0.5, "x")), size=3)
    assert build(through_json(block), trusted=("blocks", "tests")) == block
    with pytest.raises(ValueError, match=r"tests.interop.test_construction.Theirs' is not of .'blocks'.*trusted="):
        build(through_json(block))


@pytest.mark.parametrize("value", [F.relu, torch.zeros(2), [1], {"a": 1}, torch.float16, TABLE["ModuleBlock"].make()])
def test_what_is_no_plain_value_cannot_be_described(value):
    with pytest.raises(ValueError, match=r"(Theirs\._inner|ModuleBlock\.make) is a \w+, which cannot be described"):
        describe(Theirs(value))


def test_a_class_that_nobody_finds_again_cannot_be_described():
    @attrs.frozen
    class Local(Block):
        pass

    with pytest.raises(ValueError, match="Local is written inside a function"):
        describe(Local())
    with pytest.raises(ValueError, match="Confused has a field 'block'"):
        describe(Confused(Linear(1, 1)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os.system", "is not of"),
        ("blocksmith.Evil", "is not of"),
        ("blocks", "is not of"),
        ("blocks..tree", "is not of"),
        ("blocks.no_such.Linear", "is not here"),
        ("blocks.layers.linear.Lost", "is not a Block class"),
        ("blocks.layers.linear.normal", "is not a Block class"),
        ("blocks.layers.linear.torch", "is not a Block class"),
        ("blocks.layers.mlp.Linear", "is not a Block class"),  # where it is imported, not where it is written
        ("blocks.tree.Flat", "is not a Block class"),
    ],
)
def test_only_block_classes_of_trusted_packages_are_made(name, said):
    with pytest.raises(ValueError, match=said):
        build({"block": name})


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ([], r"\[\] describes no block"),
        ({"in_features": 3}, 'wants an entry "block"'),
        ({"block": 3}, "describes no block"),
        (
            {"block": "blocks.layers.linear.Linear", "in_features": 3, "width": 2},
            r"has no \['width'\] and wants \['out",
        ),
        ({"block": "blocks.layers.linear.Linear", "in_features": 3, "out_features": {1}}, "out_features is a set"),
        ({"block": "blocks.layers.drop.Dropout", "rate": 2.0}, "blocks.layers.drop.Dropout: .*2.0"),
        ({"block": "blocks.layers.drop.Dropout", "rate": "much"}, "blocks.layers.drop.Dropout: "),
        ({"block": "blocks.interop.from_module.ModuleBlock", "make": "os.system"}, "ModuleBlock: 'str'.*not callable"),
    ],
)
def test_a_wrong_description_says_where_it_is_wrong(description, said):
    with pytest.raises(ValueError, match=said):
        build(description)


def test_a_wrong_description_deep_inside_names_its_place():
    description = describe(blocks.vit(depth=1, embed_dim=8, num_heads=2))
    description["trunk"]["blocks"][0]["attn"]["heads"] = 4
    with pytest.raises(ValueError, match=r"blocks.layers.attention.Attention has no \['heads'\]; its fields are"):
        build(description)
