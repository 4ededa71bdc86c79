"""Keys that are made of files' names, as every reader of shards finds them."""

import unicodedata

import pytest
import webdataset

from blocks.data.index.index import open_shards
from blocks.data.index.read import Reader
from blocks.data.writing import Item
from tests.data.pictures import encoded, picture
from tests.data.writing.made import files, members, write

NAMES = ["猫", "кошка 1", "ü ber", "naïve-1", "a.b", "ねこ" * 60, "plain_1"]
STEMS = ["猫", "кошка_1", "ü_ber", "naïve-1", "a_b", "ねこ" * 30, "plain_1"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        name = name if len(name) < 50 else name[:80]  # of 240 bytes
        (tmp_path / "images" / "cat" / f"{name}.png").write_bytes(encoded(picture(number)))
    return tmp_path / "images"


def test_letters_of_every_language_stay_in_keys(folder, tmp_path):
    write(folder, tmp_path / "out")
    shard = tmp_path / "out" / "train-000000.tar"
    keys = {name.rpartition(".")[0] for name in members(shard)}
    assert {key.partition("_")[2] for key in keys} == set(STEMS)
    index = open_shards(tmp_path / "out")
    scanned = open_shards(shard)
    assert (index.offset == scanned.offset).all()
    assert (index.size == scanned.size).all()
    assert {index.name(i).rpartition("sample ")[2] for i in range(len(index))} == keys
    theirs = {sample["__key__"]: sample for sample in webdataset.WebDataset(str(shard), shardshuffle=False)}
    assert set(theirs) == keys
    reader = Reader(index)
    assert {s["png"] for s in theirs.values()} == {reader.read(i) for i in range(len(index))}
    write(folder, tmp_path / "again")
    assert files(tmp_path / "out") == files(tmp_path / "again")


def test_a_name_has_one_key_however_its_accents_are_written(tmp_path):
    """A Mac's names have them as characters of their own."""
    for form in ("NFC", "NFD"):
        source = [Item(None, encoded(picture(0)), 0, name=unicodedata.normalize(form, "ü.png"))]
        write(source, tmp_path / form)
    assert files(tmp_path / "NFC") == files(tmp_path / "NFD")


def test_a_given_key_may_have_letters_of_every_language(tmp_path):
    write([("猫/1", encoded(picture(0)), 0)], tmp_path)
    assert set(members(tmp_path / "train-000000.tar")) == {"猫/1.png", "猫/1.cls"}
