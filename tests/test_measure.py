"""bench/measure.py compares what took turns."""

from pathlib import Path

import pytest


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    import measure

    return measure


def test_a_slow_minute_that_hits_both_changes_no_ratio(measure):
    speed_of_machine = [1, 1, 3, 3, 3, 0.5]
    ours = [1.0 * slow for slow in speed_of_machine]
    theirs = [1.5 * slow for slow in speed_of_machine]
    assert measure.ratio(theirs, ours) == (1.5, 1.5, 1.5)


def test_a_ratio_lies_between_its_quartiles(measure):
    """The ratio of medians need not: here it is 1.25, and two rounds of three say 1."""
    theirs, ours = [10.0, 4.0, 5.0], [2.0, 4.0, 5.0]
    assert measure.ratio(theirs, ours) == (1.0, 1.0, 3.0)


def test_one_round_is_its_own_spread(measure):
    assert measure.ratio([3.0], [2.0]) == (1.5, 1.5, 1.5)


def test_all_take_their_turns_in_an_order_of_that_turn(measure):
    orders = [measure.order("abc", turn) for turn in range(20)]
    assert orders == [measure.order("abc", turn) for turn in range(20)]
    assert {tuple(sorted(names)) for names in orders} == {("a", "b", "c")}
    assert len({names[0] for names in orders}) == 3


def test_interleaving_calls_each_once_untimed_and_then_as_often_as_asked(measure):
    calls = []
    seconds = measure.interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert sorted(calls) == ["a"] * 4 + ["b"] * 4
    assert [len(found) for found in seconds.values()] == [3, 3]
