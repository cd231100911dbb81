from collections import Counter

import pytest

from controller.decisions import neighbours
from controller.searcher import Searcher
from controller.searchers.evolutionary.local_search import LocalSearch
from controller.searchers.evolutionary.options import LocalSearchOptions
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.settings import SettingsSpace
from tests.contracts.searcher import SearcherContract
from tests.controller.searchers.evolutionary.test_evolution import SPACE, Search, ended, fitness

DECISIONS = SPACE.decisions(0)

SMALL = SettingsSpace(settings=("learning-rate=.2,.1,.05", "momentum=.9,.8,.7"))


class TestLocalSearch(SearcherContract):
    def make(self) -> Searcher:
        return LocalSearch(SPACE, LocalSearchOptions())


class TestOnAGrowingSpace(SearcherContract):
    def make(self) -> Searcher:
        return LocalSearch(ConvolutionalSpace(initial_depth=2), LocalSearchOptions(random_starts=1))


class TestOnASpaceWithLocalOptima(SearcherContract):
    """So small that a search stands at several optima, one after another."""

    searched = 40

    def make(self) -> Searcher:
        return LocalSearch(SMALL, LocalSearchOptions(random_starts=2))


def search(starts: int = 1) -> Search:
    return Search(LocalSearch(SPACE, LocalSearchOptions(random_starts=starts)))


def test_it_climbs_by_neighbours_to_the_top() -> None:
    """Every edge counts alike, so that at most 24 tries a step, and 6 steps, lead to the top."""
    run = search()
    here = run.end(run.step()[0].tokens)
    for _ in range(6 * 24):
        if here.reward == 1:
            break
        (proposal,) = run.step()
        assert proposal.tokens in neighbours(DECISIONS, here.tokens)
        child = run.end(proposal.tokens)
        if (child.reward or 0) > (here.reward or 0):
            here = child
    assert here.reward == 1


def test_nothing_is_tried_twice_before_the_top() -> None:
    run = search()
    while not run.history or run.history[-1].reward != 1:
        run.end(run.step()[0].tokens)
    assert len({child.tokens for child in run.history}) == len(run.history)


def test_the_first_climb_starts_at_the_best_of_the_random_ones() -> None:
    run = search(starts=3)
    for tokens in ((0,) * 6, (3, 2, 1, 0, 4, 0), (1,) * 6):
        assert run.step()[0].tokens != tokens
        run.end(tokens)
    around = neighbours(DECISIONS, (3, 2, 1, 0, 4, 0))
    assert all(proposal.tokens in around for proposal in run.step(24))


def test_where_it_stands_follows_from_the_history_alone() -> None:
    """It goes on from the history that it got last, and from no other, whatever was asked before."""
    histories = []
    for first in ((0,) * 6, (1,) * 6):
        run = search()
        run.end(first)
        histories.append(run.run(70).history)
    asked = search().searcher
    for length in (5, 71, 30, 31):
        for history in histories:
            old, new = Search(asked, history=history[:length]), search()
            new.history += history[:length]
            assert old.step(24) == new.step(24)


def test_children_without_reward_are_not_tried_again_and_hold_up_no_climb() -> None:
    """Here all that have a 1 on the first or the second edge are dropped, as failures may be."""
    run = Search(
        LocalSearch(SPACE, LocalSearchOptions(random_starts=1)),
        reward=lambda tokens: None if 1 in tokens[:2] else fitness(tokens),
    )
    run.end((0,) * 6)
    run.run(300)
    dropped = [child.tokens for child in run.history if child.reward is None]
    assert len(dropped) > 20
    assert max(Counter(dropped).values()) <= 2  # twice only by another climb's random start
    top = run.history.index(max(run.history, key=lambda child: child.reward or 0))
    assert fitness(run.history[top].tokens) == 1
    assert top < 6 * 24
    assert len({child.tokens for child in run.history}) > 250  # other climbs began


def test_several_asked_for_at_once_are_different_and_not_under_way() -> None:
    run = search()
    run.end((0,) * 6)
    first = run.step(10)
    pending = [ended(i, proposal.tokens, 0.0) for i, proposal in enumerate(first, start=2)]
    second = run.step(20, pending)
    around = set(neighbours(DECISIONS, (0,) * 6))
    tried = [proposal.tokens for proposal in first + second if proposal.tokens in around]
    assert len(tried) == len(set(tried)) == 24
    assert len(second) == 20  # the other six are random


def test_at_the_top_another_climb_starts_from_a_random_one() -> None:
    run = search()
    top = (3, 2, 1, 0, 4, 3)
    run.end(top)
    for tokens in neighbours(DECISIONS, top):
        run.end(tokens)
    (start,) = run.step()
    assert fitness(start.tokens) < 1
    run.end((0, 0, 0, 1, 0, 0))
    around = neighbours(DECISIONS, (0, 0, 0, 1, 0, 0))
    assert all(proposal.tokens in around for proposal in run.step(10))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`random_starts` must be at least 1, got 0"):
        LocalSearchOptions(random_starts=0)
