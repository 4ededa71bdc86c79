"""Labels in the order of names that a model was trained with."""

import attrs
import numpy as np
import pytest

from blocks.data import Index, mix_sources, open_shards, write_dataset
from blocks.data.index.scan import NO_LABEL
from tests.data.pictures import picture


def index(classes, labels=(0, 1, 2, 1), labelled=True):
    """An index of these labels that nobody reads."""
    none = np.zeros(len(labels), np.int64)
    return Index((), none, none, none + 1, np.array(labels, np.int64), classes, labelled)


def written(folder):
    """An index of shards: cat, dog, owl."""
    for i, name in enumerate(("cat", "dog", "owl")):
        (folder / "photos" / name).mkdir(parents=True)
        picture(i).save(folder / "photos" / name / "a.png")
    write_dataset(folder / "photos", folder / "shards", workers=0, progress=False)
    return open_shards(folder / "shards")


def names(index):
    """What each sample is called."""
    return [None if label == NO_LABEL else index.classes[label] for label in index.label.tolist()]


def test_every_sample_keeps_its_name_and_gets_the_model_s_number():
    mine = index(("cat", "dog", "owl"))
    ordered = mine.in_order_of(["owl", "bee", "cat", "dog"])
    assert names(ordered) == names(mine) == ["cat", "dog", "owl", "dog"]
    assert ordered.label.tolist() == [2, 3, 0, 3]
    assert (ordered.classes, ordered.num_classes) == (("owl", "bee", "cat", "dog"), 4)
    assert mine.label.tolist() == [0, 1, 2, 1]


def test_the_same_order_is_the_same_index_whatever_its_names():
    mine = index(("crane", "owl", "crane"))  # as in ImageNet: a bird and a machine
    assert mine.in_order_of(("crane", "owl", "crane")) is mine


def test_a_sample_without_its_label_stays_without():
    ordered = index(("cat", "dog"), (0, NO_LABEL, 1)).in_order_of(["dog", "cat"])
    assert ordered.label.tolist() == [1, NO_LABEL, 0]


def test_classes_that_the_model_has_not_are_named():
    mine = index(("cat", "dog", "owl"))
    with pytest.raises(ValueError, match=r"^3 of 4 samples are of the classes dog, owl, none of the 2 that are "):
        mine.in_order_of(["cat", "bee"])
    with pytest.raises(ValueError, match=r"of the class owl, none of the 2 that are wanted \(dog, cat\); .*take"):
        mine.in_order_of(["dog", "cat"])


def test_of_many_classes_the_first_are_named():
    many = tuple(f"n{i}" for i in range(30))
    with pytest.raises(ValueError, match=r"classes n0, n1, n2, n3, n4 and 5 more, none of .* \(x0, x1, x2, x3, x4 and"):
        index(many, range(10)).in_order_of([f"x{i}" for i in range(30)])


def test_an_unknown_class_without_a_sample_is_none_that_could_be_counted_wrong():
    assert index(("cat", "dog", "owl"), (1, 0)).in_order_of(["dog", "cat"]).label.tolist() == [0, 1]


def test_a_name_of_two_classes_is_refused_where_the_order_differs():
    with pytest.raises(ValueError, match="crane is the name of several classes"):
        index(("crane", "owl", "crane")).in_order_of(["owl", "crane", "crane"])
    with pytest.raises(ValueError, match="crane is the name of several classes"):
        index(("crane", "owl", "bee")).in_order_of(["owl", "crane", "crane", "bee"])


def test_without_names_the_numbers_are_the_model_s_if_they_fit():
    mine = index(None)
    ordered = mine.in_order_of(["a", "b", "c", "d"])
    assert ordered.label.tolist() == mine.label.tolist()
    assert ordered.classes == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match=r"labels go to 2 and have no names, and 2 classes are wanted \(a, b\)"):
        mine.in_order_of(["a", "b"])


def test_labels_beyond_the_index_s_own_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="label 2 is not one of 2 classes"):
        attrs.evolve(written(tmp_path), classes=("cat", "dog")).in_order_of(["dog", "cat"])


def test_pictures_without_labels_have_no_order():
    mine = index(None, (NO_LABEL, NO_LABEL), labelled=False)
    assert mine.in_order_of(["a"]) is mine


def test_a_mixture_stays_one(tmp_path):
    mine = written(tmp_path)
    ordered = mix_sources([(mine, 1), (mine, 1)]).in_order_of(["owl", "dog", "cat"])
    assert ordered.sizes == (3, 3)
    assert names(ordered) == 2 * names(mine)
