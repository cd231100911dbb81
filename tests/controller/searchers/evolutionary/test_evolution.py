"""Evolution against the loop as the paper writes it (Real et al. 2019, algorithm 1; spec §4.2)."""

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest

from child_trainer.outcome import Outcome
from controller.decisions import Tokens, mutate, uniform
from controller.searcher import ChildRecord, Proposal, Searcher, View
from controller.searchers.evolutionary.evolution import Evolution, Population
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.searcher import SearcherContract, recorded

SPACE = NasBench201Space(cells_per_stage=1)


class TestEvolution(SearcherContract):
    def make(self) -> Searcher:
        return Evolution(SPACE, EvolutionOptions())


class TestVariants(SearcherContract):
    def make(self) -> Searcher:
        options = EvolutionOptions(
            population=3, repeats="refused", crossover=0.5, layer_changes=0.5, selection="roulette", dies="lowest"
        )
        return Evolution(ConvolutionalSpace(initial_depth=2, max_depth=4), options)


class TestTournament(SearcherContract):
    def make(self) -> Searcher:
        return Evolution(
            ConvolutionalSpace(initial_depth=2), EvolutionOptions(population=2, tournament=2, dies="worst")
        )


def fitness(tokens: Tokens) -> float:
    """How much alike the edges are to 3 2 1 0 4 3."""
    return sum(token == wish for token, wish in zip(tokens, (3, 2, 1, 0, 4, 3), strict=True)) / 6


@dataclass
class Search:
    """A search of one child after another, as a replica would have it."""

    searcher: Searcher
    space: SearchSpace = SPACE
    reward: Callable[[Tokens], float | None] = fitness
    history: list[ChildRecord] = field(default_factory=list)

    def step(self, n: int = 1, pending: Sequence[ChildRecord] = ()) -> list[Proposal]:
        number = len(self.history)
        view = View(
            parameters={},
            completed=number,
            history=lambda: self.history,
            pending=lambda: pending,
            rng=random.Random(number),
        )
        return self.searcher.ask(n, view)

    def end(self, tokens: Tokens) -> ChildRecord:
        number = len(self.history) + 1
        self.history.append(ended(number, tokens, self.reward(tokens), self.space))
        return self.history[-1]

    def run(self, children: int) -> "Search":
        for _ in range(children):
            (proposal,) = self.step()
            self.end(proposal.tokens)
        return self


def ended(
    number: int,
    tokens: Tokens,
    reward: float | None,
    space: SearchSpace = SPACE,
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> ChildRecord:
    return recorded(
        number,
        Proposal(tokens=tokens, architecture=space.decode(tokens), notes=notes),
        outcome=Outcome(curve=(reward or 0.0,), seconds=1.0, parameters=None, flops=None, seed=number),
        reward=reward,
    )


def as_the_paper_writes_it(options: EvolutionOptions, cycles: int) -> list[Tokens]:
    """Algorithm 1, with the draws of step i from `Random(i)`."""
    alive: deque[tuple[Tokens, float]] = deque()
    history: list[Tokens] = []
    while len(history) < options.population:
        tokens = uniform(SPACE.decisions(0), random.Random(len(history)))
        alive.append((tokens, fitness(tokens)))
        history.append(tokens)
    while len(history) < cycles:
        rng = random.Random(len(history))
        sample = []
        while len(sample) < options.tournament:
            candidate = alive[int(rng.random() * len(alive))]  # which is how `random.choices` draws
            sample.append(candidate)
        parent, best = sample[0]
        for tokens, accuracy in sample:
            if accuracy > best:
                parent, best = tokens, accuracy
        child = parent if rng.random() < options.unchanged else mutate(SPACE.decisions(0), parent, rng)
        alive.append((child, fitness(child)))
        history.append(child)
        alive.popleft()
    return history


@pytest.mark.parametrize(("size", "tournament", "unchanged"), [(10, 3, 0.05), (5, 5, 0.0), (20, 1, 0.5)])
def test_one_child_at_a_time_is_the_papers_loop(size: int, tournament: int, unchanged: float) -> None:
    options = EvolutionOptions(population=size, tournament=tournament, unchanged=unchanged)
    search = Search(Evolution(SPACE, options)).run(80)
    assert [child.tokens for child in search.history] == as_the_paper_writes_it(options, 80)


def test_each_lives_as_long_as_the_population_is_large() -> None:
    """Spec T4.1: alive from its own end until P others have ended."""
    options = EvolutionOptions(population=7, tournament=7)
    history = Search(Evolution(SPACE, options)).run(30).history
    lives = Counter(child.id for count in range(1, 31) for child in Population(options).after(history[:count]))
    assert [lives[child.id] for child in history] == [7] * 24 + [6, 5, 4, 3, 2, 1]


def test_without_aging_the_worst_of_a_sample_dies_and_the_best_never() -> None:
    options = EvolutionOptions(population=7, tournament=7, dies="worst")
    history = Search(Evolution(SPACE, options)).run(60).history
    best = max(history, key=lambda child: child.reward or 0)
    for count in range(1, 61):
        before, after = (Population(options).after(history[:n]) for n in (count - 1, count))
        assert len(after) == min(count, 7)
        dead = [child for child in before if child not in after]
        assert len(dead) == (count > 7)
        assert all(child.reward is not None and child.reward < 1 for child in dead)
        assert history[count - 1] in after
        assert best.id > count or best in after


def test_a_population_without_deaths_holds_every_child_with_a_reward() -> None:
    """Spec §8.2: HNAS removes no member."""
    options = EvolutionOptions(population=7, tournament_share=0.05, dies="none")
    history = Search(Evolution(SPACE, options)).run(60).history
    for count in range(61):
        assert Population(options).after(history[:count]) == tuple(history[:count])


@pytest.mark.parametrize(("members", "drawn"), [(1, 1), (20, 1), (21, 2), (200, 10), (7200, 360)])
def test_a_tournament_can_be_a_share_of_the_population(members: int, drawn: int) -> None:
    assert EvolutionOptions(tournament_share=0.05).drawn(members) == drawn
    assert EvolutionOptions(tournament=3).drawn(members) == 3


def test_evolution_without_deaths_and_a_small_share_still_climbs() -> None:
    options = EvolutionOptions(population=20, tournament_share=0.05, dies="none")
    history = Search(Evolution(SPACE, options)).run(300).history
    assert sum(child.reward or 0 for child in history[-50:]) / 50 > 0.6


@pytest.mark.parametrize("dies", ["oldest", "worst", "none"])
def test_who_is_alive_follows_from_the_history_alone(dies: Any) -> None:
    options = EvolutionOptions(population=7, tournament=2, dies=dies)
    histories = [Search(Evolution(SPACE, options), reward=reward).run(40).history for reward in (fitness, sum)]
    asked = Population(options)
    for length in (5, 40, 20, 21):
        for history in histories:
            assert asked.after(history[:length]) == Population(options).after(history[:length])


def test_who_has_no_reward_is_neither_alive_nor_makes_others_die() -> None:
    options = EvolutionOptions(population=7)
    history = Search(
        Evolution(SPACE, options), reward=lambda tokens: None if tokens[0] == 1 else fitness(tokens)
    ).run(60).history  # fmt: skip
    judged = [child for child in history if child.reward is not None]
    assert 10 < len(judged) < 58
    assert Population(options).after(history) == tuple(judged[-7:])


def test_a_later_reader_sees_the_same_alive() -> None:
    options = EvolutionOptions(population=7, tournament=2, dies="worst")
    history = Search(Evolution(SPACE, options)).run(40).history
    assert Population(options).after(history) == Population(options).after(list(history))
    assert [c.id for c in Population(options).after(history)] != [c.id for c in history[-7:]]


def test_the_first_ones_are_random_also_when_many_are_under_way() -> None:
    """Ten are to be random, of which six are under way: of eight more, four are, and then there is nobody alive yet."""
    search = Search(Evolution(SPACE, EvolutionOptions(population=10, tournament=10, unchanged=1.0)))
    pending = [ended(i, (0,) * 6, 0.0) for i in range(6)]
    assert len({p.tokens for p in search.step(8, pending)}) > 4
    search.end((1,) * 6)
    later = [p.tokens for p in search.step(8, pending)]
    assert later[3:] == [(1,) * 6] * 5
    assert (1,) * 6 not in later[:3]


def test_a_mutation_changes_one_token_and_a_share_of_children_none() -> None:
    """Spec T4.2."""
    searcher = Evolution(SPACE, EvolutionOptions(population=1, tournament=1))
    search = Search(searcher)
    search.end((0, 1, 2, 3, 4, 0))
    changes = Counter(
        sum(a != b for a, b in zip(proposal.tokens, (0, 1, 2, 3, 4, 0), strict=True))
        for proposal in search.step(10_000)
    )
    assert changes.keys() == {0, 1}
    assert changes[0] / 10_000 == pytest.approx(0.05, abs=0.01)


def test_a_larger_tournament_is_greedier_and_one_of_one_makes_no_progress() -> None:
    """Spec T4.3 and T4.4, on this space: the mean reward of the last 50 of 300 children; a random one has 0.2."""

    def last(options: EvolutionOptions) -> float:
        history = Search(Evolution(SPACE, options)).run(300).history
        return sum(child.reward or 0 for child in history[-50:]) / 50

    assert last(EvolutionOptions(population=20, tournament=10)) > 0.6
    assert last(EvolutionOptions(population=20, tournament=1)) < 0.4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"population": 0}, "`population` must be at least 1, got 0"),
        ({"tournament": 0}, "`tournament` must be at least 1, got 0"),
        ({"tournament": 100_001}, "`tournament` must be at most 100,000, got 100001"),
        ({"tournament_share": 0.0}, "`tournament_share` must be above 0 and at most 1, got 0.0"),
        ({"tournament_share": 1.1}, "`tournament_share` must be above 0 and at most 1, got 1.1"),
        ({"unchanged": 1.1}, "`unchanged` must be from 0 to 1, got 1.1"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvolutionOptions(**wrong)  # type: ignore[arg-type]
