"""k-NN accuracy: against brute force, at ties, at the edges, and as a monitor."""

import math

import pytest
import torch

from blocks.probe import knn as module
from blocks.probe.features import Features, features
from blocks.probe.knn import knn
from blocks.probe.knn_monitor import KnnMonitor, knn_monitor
from blocks.probe.nearest import largest
from blocks.random import key, uniform
from tests.probe.small import CLASSES, HERE, Images, cloud, trunk


def predictions(train, test, k, temperature):
    """DINO's vote in plain Python, sample by sample, from the definition."""
    found = []
    for row in test.values.tolist():
        near = []
        for place, other in enumerate(train.values.tolist()):
            dot = sum(a * b for a, b in zip(row, other, strict=True))
            near.append((-dot / math.hypot(*row) / math.hypot(*other), place))
        votes = [0.0] * CLASSES
        for minus, place in sorted(near)[:k]:
            votes[int(train.labels[place])] += math.exp(-minus / temperature)
        found.append(votes.index(max(votes)))
    return found


def brute(train, test, k, temperature=0.07):
    right = [a == b for a, b in zip(predictions(train, test, k, temperature), test.labels.tolist(), strict=True)]
    return sum(right) / len(right)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_accuracy_is_that_of_brute_force(temperature, monkeypatch):
    monkeypatch.setattr(module, "TRAIN_ROWS", 9)  # many blocks, the last of them shorter
    monkeypatch.setattr(module, "TEST_ROWS", 7)
    train, test = cloud(60, 1), cloud(25, 2)
    found = knn(train, test, (1, 5, 20, 50), temperature)
    assert found == {f"knn{k}": brute(train, test, k, temperature) for k in (1, 5, 20, 50)}
    assert len(set(found.values())) > 1


def test_by_default_it_is_dino_s():
    """Its `eval_knn.py`: four numbers of neighbours at once, and temperature 0.07."""
    train, test = cloud(60, 1, width=3), cloud(200, 2, width=3)
    assert knn(train, test) == knn(train, test, (10, 20, 100, 200), 0.07)
    assert len({knn(train, test, (20,), t)["knn20"] for t in (0.06, 0.07, 0.08)}) == 3


def test_at_a_tiny_temperature_the_nearest_has_all_the_votes():
    """exp(1 / 1e-4) is no number, but the shares of votes are."""
    train, test = cloud(60, 1), cloud(25, 2)
    found = knn(train, test, (1, 20), 1e-4)
    assert found["knn20"] == found["knn1"] == brute(train, test, 1)


def test_blocks_change_nothing(monkeypatch):
    train, test = cloud(60, 1), cloud(25, 2)
    whole = knn(train, test, (5, 20))
    for train_rows, test_rows in ((1, 1), (7, 30), (100, 3)):
        monkeypatch.setattr(module, "TRAIN_ROWS", train_rows)
        monkeypatch.setattr(module, "TEST_ROWS", test_rows)
        assert knn(train, test, (5, 20)) == whole


def test_the_length_of_a_feature_does_not_count():
    """VISSL's default left it in, and with ViT's features the votes overflowed."""
    train, test = cloud(40, 1), cloud(20, 2)
    lengths = torch.arange(1, 41)[:, None] ** 2.0
    long = Features(1e3 * lengths * train.values, train.labels, train.index)
    assert knn(long, test, (5,)) == knn(train, test, (5,))


def test_more_neighbours_than_there_are_train_samples_is_all_of_them():
    train, test = cloud(12, 1), cloud(20, 2)
    found = knn(train, test, (12, 200))
    assert found["knn200"] == found["knn12"] == brute(train, test, 12)


def test_the_nearest_neighbour_of_a_train_sample_is_itself():
    train = cloud(30, 1)
    assert knn(train, train, (1,)) == {"knn1": 1.0}


def test_of_equally_near_samples_the_first_are_asked(monkeypatch):
    """Coordinates of +-1/2 make similarities exact, with many ties; labels tell the samples apart."""
    signs = torch.where(uniform(key(3), (40, 4)) < 0.5, -0.5, 0.5).double()
    train = Features(signs, torch.arange(40) % CLASSES, torch.arange(40))
    test = Features(signs[:16], torch.arange(16) % CLASSES, torch.arange(16))
    expected = {f"knn{k}": brute(train, test, k, 1.0) for k in (1, 2, 3, 7)}
    for rows in (5, 40):
        monkeypatch.setattr(module, "TRAIN_ROWS", rows)
        assert knn(train, test, (1, 2, 3, 7), 1.0) == expected


def test_labels_that_only_the_test_samples_have_are_never_hit():
    train, test = cloud(20, 1), cloud(8, 2)
    assert knn(train, Features(test.values, test.labels + CLASSES, test.index), (3,)) == {"knn3": 0.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrower_features_are_compared_in_float32(dtype):
    train, test = (Features(f.values.to(dtype), f.labels, f.index) for f in (cloud(60, 1), cloud(25, 2)))
    wide = [Features(f.values.double(), f.labels, f.index) for f in (train, test)]
    assert knn(train, test, (10,)) == knn(*wide, (10,))


def test_the_largest_are_those_of_a_stable_sort():
    x = (4 * uniform(key(0), (50, 30))).floor()
    values, places = largest(x, 11)
    expected = x.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, expected.values[:, :11])
    assert torch.equal(places, expected.indices[:, :11])


def test_numbers_that_cannot_be_are_errors():
    train, test = cloud(20, 1), cloud(8, 2)
    with pytest.raises(ValueError, match=r"k \(\) are not"):
        knn(train, test, ())
    with pytest.raises(ValueError, match=r"k \(0, 5\) are not"):
        knn(train, test, (0, 5))
    with pytest.raises(ValueError, match="temperature 0 is not above 0"):
        knn(train, test, (1,), 0)
    with pytest.raises(ValueError, match="0 train and 8 test"):
        knn(Features(train.values[:0], train.labels[:0], train.index[:0]), test)


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_features_that_are_no_numbers_cannot_vote(part, number):
    found = [cloud(20, 1), cloud(8, 2)]
    found[part].values[3, 2] = number
    with pytest.raises(ValueError, match="1 of the features' numbers are not finite"):
        knn(*found, (5,))


def test_features_of_two_widths_are_an_error():
    train = cloud(20, 1)
    narrow = Features(train.values[:, 1:], train.labels, train.index)
    width = train.values.shape[1]
    with pytest.raises(ValueError, match=f"train features are {width} wide, test features {width - 1}"):
        knn(train, narrow, (5,))


def test_a_monitor_gives_the_accuracy_of_the_params_it_is_shown():
    model, train, val = trunk(), Images(24), Images(12, seed=2)
    params = model.init(key(0))
    found = KnnMonitor(model, train, val, HERE, k=(3, 5), temperature=0.1)(params)
    both = (features(model, params, data, HERE) for data in (train, val))
    assert found == knn(*both, (3, 5), 0.1)
    assert found["knn5"] > 1 / CLASSES


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"k": ()}, r"k \(\) are not"),
        ({"k": (20, 0)}, r"k \(20, 0\) are not"),
        ({"k": (2.5,)}, r"k \(2\.5,\) are not"),
        ({"temperature": 0.0}, "temperature 0.0 is not above 0"),
    ],
)
def test_a_monitor_that_could_not_vote_is_refused_before_the_first_epoch(knobs, words):
    with pytest.raises(ValueError, match=words):
        KnnMonitor(trunk(), Images(4), Images(4), HERE, **knobs)


def test_features_without_labels_cannot_vote():
    train, test = cloud(20, 1), cloud(5, 2)
    bare = Features(train.values, torch.full_like(train.labels, -1), train.index)
    for pair in ((bare, test), (test, bare)):
        with pytest.raises(ValueError, match="some features have no label"):
            knn(*pair, (1,))


def test_there_is_a_monitor_where_there_are_loaders():
    assert knn_monitor(trunk(), (), HERE) is None
    found = knn_monitor(trunk(), [Images(4), Images(5)], HERE)
    assert [len(found.train_data.images), len(found.val_data.images)] == [4, 5]
