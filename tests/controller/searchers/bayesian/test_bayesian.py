"""Bayesian optimisation as a searcher (spec §19)."""

import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from controller.decisions import Tokens
from controller.searcher import ChildRecord, Searcher, View
from controller.searchers.bayesian.bayesian import BayesianOptimisation
from controller.searchers.bayesian.evidence import Evidence
from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.bayesian.surrogate import choose_settings, token_features
from controller.searchers.random_search import RandomSearch
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace
from tests.contracts.searcher import SearcherContract
from tests.controller.searchers.bit_strings import BitStrings, ToySearch
from tests.controller.searchers.evolutionary.test_evolution import SPACE, Search, ended, fitness

FEW: dict[str, Any] = {"candidates": 50, "mutations": 5}


class TestTokens(SearcherContract):
    def make(self) -> Searcher:
        return BayesianOptimisation(SPACE, BayesianOptions(**FEW))


class TestFeatures(SearcherContract):
    def make(self) -> Searcher:
        return BayesianOptimisation(SPACE, BayesianOptions(random_starts=3, encoding="features", **FEW))


class TestOnAGrowingSpace(SearcherContract):
    def make(self) -> Searcher:
        space = ConvolutionalSpace(initial_depth=2, depth_interval=6)
        return BayesianOptimisation(space, BayesianOptions(random_starts=4, targets="rewards", lie="mean", **FEW))


class TestOnCells(SearcherContract):
    def make(self) -> Searcher:
        return BayesianOptimisation(RecurrentSpace(), BayesianOptions(random_starts=4, lie="best", **FEW))


def search(**options: Any) -> Search:
    return Search(BayesianOptimisation(SPACE, BayesianOptions(**(FEW | options))))


def test_after_60_children_it_is_ahead_of_random_search_on_the_toy() -> None:
    """Spec §19, on the bit strings of T4.3."""
    space = BitStrings()
    options = BayesianOptions(candidates=50, parents=5, mutations=10)
    found = [ToySearch(BayesianOptimisation(space, options), seed).run(60).best() for seed in range(2)]
    by_chance = [ToySearch(RandomSearch(space), seed).run(60).best() for seed in range(2)]
    assert min(found) > max(by_chance)
    assert statistics.fmean(found) > statistics.fmean(by_chance) + 0.05


def test_it_finds_the_best_of_15625_cells_within_60_children() -> None:
    assert max(child.reward or 0 for child in search().run(60).history) == 1.0


def test_no_architecture_is_tried_again() -> None:
    run = search().run(40)
    assert len({child.tokens for child in run.history}) == 40


def test_many_at_once_are_different_and_none_is_in_training_already() -> None:
    run = search(random_starts=5).run(20)
    pending = [ended(100 + i, p.tokens, None) for i, p in enumerate(run.step(6))]
    more = [proposal.tokens for proposal in run.step(6, pending)]
    in_training = {child.tokens for child in pending}
    assert len(in_training) == 6
    assert len(set(more)) == 6
    assert not in_training & set(more)


def test_the_first_ones_are_random_also_when_many_are_in_training() -> None:
    """Of ten random ones six are in training and two have ended: of eight more, the first two are random."""
    run = search()
    for tokens in ((0,) * 6, (3, 2, 1, 0, 4, 3)):
        run.end(tokens)
    pending = [ended(10 + i, (i % 5,) * 6, None) for i in range(6)]
    chosen = [proposal.tokens for proposal in run.step(8, pending)]
    assert chosen[:2] == [p.tokens for p in Search(RandomSearch(SPACE), history=run.history).step(2)]
    assert len(set(chosen)) == 8


def test_a_child_without_a_reward_teaches_nothing_but_is_not_tried_again() -> None:
    run = search(random_starts=2)
    run.reward = lambda tokens: None if tokens[0] == 3 else fitness(tokens)
    run.run(30)
    failed = [child for child in run.history if child.reward is None]
    assert 0 < len(failed) < 30
    assert len({child.tokens for child in run.history}) == 30
    only_failed = search(random_starts=2)
    only_failed.reward = lambda tokens: None
    assert len(only_failed.run(12).history) == 12


def test_a_space_that_is_used_up_gives_random_architectures() -> None:
    space = BitStrings(length=3)
    history = ToySearch(BayesianOptimisation(space, BayesianOptions(random_starts=2, **FEW)), 0).run(12).history
    assert len({child.tokens for child in history[:8]}) == 8


def test_the_figures_are_the_settings_and_the_improvement_that_was_expected() -> None:
    run = search().run(12)
    children = [ended(20 + i, p.tokens, 0.5, notes=p.notes) for i, p in enumerate(run.step(3))]
    view = View(parameters={}, completed=12, history=lambda: run.history, pending=tuple, rng=random.Random(0))
    figures = run.searcher.learn(children, view).figures
    assert set(figures) == {"length_scale", "noise", "expected_improvement"}
    assert figures["expected_improvement"] == max(child.notes["expected_improvement"] for child in children) > 0
    assert set(run.searcher.learn(run.history[:1], view).figures) == {"length_scale", "noise"}


@pytest.mark.parametrize("targets", ["rewards", "ranks", "log-regret"])
def test_a_target_stands_for_a_reward_between_those_of_the_children(targets: str) -> None:
    evidence = Evidence(BayesianOptions(targets=targets), token_features)  # pyright: ignore[reportArgumentType]
    rewards = [0.3, 0.9, 0.5, 0.5]
    points = [
        ChildRecord(id=i, tokens=(i, 0, 0, 0, 0, 0), architecture_id=str(i), reward=reward)
        for i, reward in enumerate(rewards, start=1)
    ]
    given = evidence.targets(points)
    assert [evidence.reward_of_target(float(target), points) for target in given] == pytest.approx(rewards)
    between = evidence.reward_of_target((max(given) + sorted(given)[-2]) / 2, points)
    assert between == pytest.approx(0.7)
    assert evidence.reward_of_target(1e9, points) == 0.9
    assert evidence.reward_of_target(-1e9, points) == 0.3


@pytest.mark.parametrize("limit", [10, 1_000])
def test_settings_follow_from_the_history_alone(limit: int) -> None:
    """An instance that got a history step by step, one that sees it at once, and one that saw another before."""
    options = BayesianOptions(max_points=limit)
    histories = [search(random_starts=2).run(30).history, Search(RandomSearch(SPACE)).run(30).history]
    asked = Evidence(options, token_features)
    for length in (5, 30, 20, 21, 1):
        for history in histories:
            at_once = Evidence(options, token_features).after(history[:length])
            assert asked.after(history[:length]).settings == at_once.settings
            assert asked.points == at_once.points
            assert asked.tried == at_once.tried


def test_settings_are_chosen_again_after_a_tenth_more_children(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(inputs: object, targets: Sequence[float]) -> object:
        sizes.append(len(targets))
        return choose_settings(inputs, targets)  # type: ignore[arg-type]

    monkeypatch.setattr("controller.searchers.bayesian.evidence.choose_settings", counted)
    evidence, history = Evidence(BayesianOptions(), token_features), Search(RandomSearch(SPACE)).run(40).history
    for count in range(41):
        assert (evidence.after(history[:count]).settings is None) == (count < 2)
    assert sizes == [*range(2, 20), 20, 22, 24, 26, 28, 30, 33, 36, 39]


def test_of_a_long_history_the_best_and_the_latest_count() -> None:
    rng = random.Random(3)
    history = [ended(i, (0, 1, 2, 3, 4, i % 5), rng.random()) for i in range(50)]
    points = Evidence(BayesianOptions(max_points=10), token_features).after(history).points

    def reward(child: ChildRecord) -> float:
        return child.reward or 0.0

    best = sorted(history, key=reward, reverse=True)[:5]
    latest = [child for child in history if child not in best][-5:]
    assert list(points) == [child for child in history if child in best or child in latest]


def test_a_long_history_is_read_without_choosing_its_points_at_each_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice sorts all children: at each of 10,000 it took 10 s of a resume, and 100 times that at 100,000."""
    chosen: list[int] = []

    def counted(judged: Sequence[ChildRecord], limit: int) -> tuple[ChildRecord, ...]:
        chosen.append(len(judged))
        return tuple(judged[-limit:])

    monkeypatch.setattr("controller.searchers.bayesian.evidence._thinned", counted)
    rng = random.Random(3)
    history = [ended(i, (0, 1, 2, 3, 4, i % 5), rng.random()) for i in range(300)]
    evidence = Evidence(BayesianOptions(max_points=10), token_features).after(history)
    assert evidence.settings is not None
    assert len(evidence.points) == 10
    assert chosen == [284]


def test_paths_are_counted_and_one_with_an_edge_none_is_absent() -> None:
    def features(*tokens: int) -> dict[str, float]:
        return dict(NasBench201Space().features(tokens))

    conv, skip = "nor_conv_3x3", "skip_connect"
    assert features(0, 0, 0, 0, 0, 0) == {}
    assert features(3, 3, 0, 1, 1, 1) == {skip: 1, f"{conv} {skip}": 2}
    assert features(3, 3, 3, 1, 1, 1) == {skip: 1, f"{conv} {skip}": 2, f"{conv} {conv} {skip}": 1}
    # An edge into a node that has no way on does not count.
    assert features(3, 2, 0, 1, 1, 0) == features(3, 4, 0, 1, 1, 0)


def test_a_space_without_features_is_refused_for_them() -> None:
    with pytest.raises(ValueError, match="`encoding` must be `tokens`, as the space 'BitStrings' has no features"):
        BayesianOptimisation(BitStrings(), BayesianOptions(encoding="features"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"random_starts": 1}, "`random_starts` must be at least 2, got 1"),
        ({"candidates": 0}, "`candidates` must be at least 1, got 0"),
        ({"candidates": 100_001}, "`candidates` must be at most 100,000, got 100001"),
        ({"parents": 0}, "`parents` must be at least 1, got 0"),
        ({"mutations": -1}, "`mutations` must be at least 0, got -1"),
        ({"mutations": 10_001}, "`parents` times `mutations` must be at most 100,000, got 100010"),
        ({"improvement": -0.1}, "`improvement` must be 0 or more, got -0.1"),
        ({"improvement": float("nan")}, "`improvement` must be 0 or more, got nan"),
        ({"max_points": 9}, "`max_points` must be at least `random_starts`, 10, got 9"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BayesianOptions(**wrong)  # type: ignore[arg-type]


def test_the_catalogue_does_not_import_scikit_learn() -> None:
    code = "import sys, controller.catalogue; print('sklearn' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_same_tokens_have_the_same_features() -> None:
    tokens: Tokens = (1, 0, 2)
    assert token_features(tokens) == {"0:1": 1.0, "1:0": 1.0, "2:2": 1.0}
