"""Asynchronous successive halving (Li et al. 2020), and the brackets of Hyperband (Li et al. 2018)."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from controller.stopping.halving import Halving
from controller.stopping.options import StoppingOptions
from controller.stopping.stopper import KnownCurve, KnownCurves, Stopper
from tests.contracts.stopper import StopperContract


def halving(epochs: int = 12, **options: int) -> Halving:
    options = {"stop_min_epochs": 1, **options}
    return Halving(options=StoppingOptions(early_stop="halving", **options), epochs=epochs, lower_is_better=False)


class TestHalving(StopperContract):
    def make(self) -> Stopper:
        return halving(halving_factor=2)


class TestBrackets(StopperContract):
    def make(self) -> Stopper:
        return halving(halving_factor=3, halving_brackets=2)


def known(child_id: int, *values: float, ended: bool = True) -> KnownCurve:
    return KnownCurve(child_id=child_id, values=values, ended=ended)


def test_rungs_grow_by_the_factor() -> None:
    rule = halving(epochs=81, stop_min_epochs=1, halving_factor=3, halving_brackets=3)
    assert [rule.rungs(bracket) for bracket in range(3)] == [(1, 3, 9, 27), (3, 9, 27), (9, 27)]
    assert halving(epochs=8, stop_min_epochs=2, halving_factor=2).rungs(0) == (2, 4)


def test_brackets_have_the_sizes_of_hyperband() -> None:
    """Its example with R = 9 and eta = 3 has 9, 5 and 3 configurations."""
    rule = halving(epochs=9, halving_factor=3, halving_brackets=3)
    assert Counter(rule.bracket(child) for child in range(1, 18)) == {0: 9, 1: 5, 2: 3}
    assert [rule.bracket(child) for child in (1, 9, 10, 14, 15, 17, 18)] == [0, 0, 1, 1, 2, 2, 0]


def test_of_those_at_a_rung_the_best_one_in_eta_goes_on() -> None:
    rule = halving(halving_factor=2)
    ended = [known(1, 0.5, 0.99), known(2, 0.4), known(3, 0.7, 0.8)]
    for value, stops in ((0.45, True), (0.5, False), (0.6, False)):
        answer = rule.judge(known(4, value, ended=False), KnownCurves(ended))
        assert (answer is not None) is stops  # 2 of the 4 that have reached epoch 1
    answer = rule.judge(known(4, 0.45, ended=False), KnownCurves(ended))
    assert answer is not None
    assert answer.reason == "its metric, 0.45, is number 3 of 4 at this rung, of which 2 go on"


def test_while_fewer_than_eta_have_reached_a_rung_all_go_on() -> None:
    rule = halving(halving_factor=3)
    assert rule.judge(known(2, 0.0, ended=False), KnownCurves([known(1, 0.9, 0.9)])) is None
    assert rule.judge(known(3, 0.0, ended=False), KnownCurves([known(1, 0.9, 0.9), known(2, 0.0)])) is not None


def test_children_in_training_count_at_the_rungs_that_they_have_reached() -> None:
    rule = halving(halving_factor=2)
    best = known(1, 0.99, 0.99)
    answer = rule.judge(known(3, 0.2, ended=False), KnownCurves([best, known(2, 0.9, 0.9, ended=False)]))
    assert answer is not None
    assert "number 3 of 3" in answer.reason


def test_between_rungs_nothing_is_decided() -> None:
    rule = halving(halving_factor=2)
    others = KnownCurves(known(number, *[0.9] * 12) for number in range(1, 9))
    decided = [epoch for epoch in range(1, 12) if rule.judge(known(9, *[0.1] * epoch, ended=False), others)]
    assert decided == [1, 2, 4, 8]


def test_a_rung_at_which_nobody_decided_is_decided_at_the_next_epoch() -> None:
    """By the values until the rung: what the child or others reached later does not count."""
    rule = halving(halving_factor=2, stop_min_epochs=2)
    others = KnownCurves([known(1, 0.9, 0.9, 0.9), known(2, 0.4, 0.4, 0.8), known(3, 0.3, 0.3, 0.8)])
    child = known(4, 0.2, 0.2, 0.7, ended=False)
    assert rule.judge(replace(child, decided_until=2), others) is None
    assert rule.judge(child, others) is None
    answer = rule.judge(replace(child, decided_until=1), others)
    assert answer is not None
    assert (answer.epoch, answer.reason[:35]) == (3, "its metric, 0.2, is number 4 of 4 a")
    better = replace(child, values=(0.2, 0.5, 0.5), decided_until=0)
    assert rule.judge(better, others) is None


def test_children_compete_within_their_bracket() -> None:
    rule = halving(epochs=9, halving_factor=3, halving_brackets=3)
    first, second = [known(n, *[0.9] * 9) for n in range(1, 6)], [known(n, *[0.1] * 9) for n in (10, 11)]
    child = known(12, 0.2, 0.2, 0.2, ended=False)
    assert rule.judge(child, KnownCurves([*first, *second])) is None
    assert rule.judge(child, KnownCurves([*first, *second, known(13, *[0.8] * 9)])) is not None


@pytest.mark.parametrize("seed", range(3))
def test_with_flat_curves_a_search_keeps_about_one_in_eta_at_each_rung(seed: int) -> None:
    """The plainest form of the algorithm: children in turn, each with a value that no epoch changes."""
    rule, rng = halving(epochs=64, halving_factor=4), random.Random(seed)
    others = KnownCurves()
    for number in range(1, 401):
        value, child = rng.random(), None
        for epoch in range(1, 65):
            child = known(number, *[value] * epoch)
            if epoch < 64 and rule.judge(known(number, *[value] * epoch, ended=False), others):
                break
        assert child is not None
        others.add(child)
    reached = [sum(len(other.values) > rung for other in others.ended) for rung in (1, 4)]
    assert all(0.2 < after / before < 0.5 for before, after in zip([400, *reached], reached, strict=False)), reached
    assert max(others.ended, key=lambda other: other.best).values[63:]  # the best was trained to its end
