"""Evolution by Pareto rank: who becomes a parent, and who is removed."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from child_trainer.outcome import Outcome
from controller.objectives import COSTS
from controller.pareto import Point, preference
from controller.searcher import ChildRecord, Proposal, View
from controller.searchers.evolutionary import selection
from controller.searchers.evolutionary.evolution import Evolution, Population
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.evolutionary.selection import key_among, select_parent, survivors
from tests.controller.searchers.bit_strings import BitStrings

COST = (COSTS["parameters"],)


def members(*points: tuple[float, int | None]) -> tuple[ChildRecord, ...]:
    """Return members with these rewards and parameters."""
    return tuple(
        ChildRecord(
            id=i,
            tokens=(i,),
            architecture_id="",
            reward=reward,
            outcome=Outcome(curve=(reward,), seconds=0.0, parameters=parameters, flops=None, seed=i),
        )
        for i, (reward, parameters) in enumerate(points)
    )


# The first three are the front; the fourth is dominated by the second, and nothing is known of the fifth's cost.
POPULATION = members((0.9, 100), (0.8, 50), (0.1, 1), (0.8, 60), (1.0, None))


def test_parents_are_of_the_front_and_not_only_the_one_with_the_highest_reward() -> None:
    options, rng = EvolutionOptions(population=5, tournament=4), random.Random(0)
    key = key_among(POPULATION, COST)
    chosen = Counter(select_parent(POPULATION, options, rng, key).id for _ in range(2_000))
    # The two ends of the front are the least crowded; the fifth wins a tournament only against itself.
    assert chosen[0] > 400
    assert chosen[2] > 300
    assert chosen[0] > chosen[1] > chosen[3]
    assert chosen[4] < 30
    by_reward = Counter(select_parent(POPULATION, options, rng).id for _ in range(2_000))
    assert by_reward[4] > 1_000


def test_truncation_takes_the_best_ranks() -> None:
    options, rng = EvolutionOptions(population=5, tournament=3, selection="truncation"), random.Random(0)
    key = key_among(POPULATION, COST)
    assert {select_parent(POPULATION, options, rng, key).id for _ in range(200)} == {0, 1, 2}


def test_the_lowest_rank_dies_first_and_the_oldest_where_age_decides() -> None:
    lowest = EvolutionOptions(population=5, dies="lowest")
    *_, child = members(*[(0.5, 1)] * 6, (0.85, 55))
    left = survivors(POPULATION, child, lowest, COST)
    assert {member.id for member in POPULATION} - {member.id for member in left} == {4}
    assert child in left
    *_, worse = members(*[(0.5, 1)] * 5, (0.05, 200))
    assert worse not in survivors(POPULATION[:4], worse, EvolutionOptions(population=4, dies="lowest"), COST)
    assert survivors(POPULATION, child, EvolutionOptions(population=5), COST) == (*POPULATION[1:], child)


def test_without_costs_nothing_changes() -> None:
    key = key_among(POPULATION, ())
    assert [key(member) for member in POPULATION] == [0.9, 0.8, 0.1, 0.8, 1.0]


def test_roulette_has_no_shares_of_ranks() -> None:
    with pytest.raises(ValueError, match="`selection` must be tournament or truncation with several objectives"):
        Evolution(BitStrings(length=3), EvolutionOptions(selection="roulette"), COST)


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members were ranked, each time that some were."""
    sizes: list[int] = []

    def counting(points: Sequence[Point | None]) -> list[tuple[int, float]]:
        sizes.append(len(points))
        return preference(points)

    monkeypatch.setattr(selection, "preference", counting)
    return sizes


def random_members(number: int) -> tuple[ChildRecord, ...]:
    rng = random.Random(number)
    return members(*((rng.randrange(12) / 12, rng.choice([None, *range(12)])) for _ in range(number)))


def ask(searcher: Evolution, history: Sequence[ChildRecord], n: int = 1) -> list[Proposal]:
    view = View(
        parameters={},
        completed=len(history),
        history=lambda: history,
        pending=tuple,
        rng=random.Random(len(history)),
    )
    return searcher.ask(n, view)


def bits(children: Iterable[ChildRecord]) -> list[ChildRecord]:
    """Return the children with the tokens of strings of 3 bits."""
    return [
        ChildRecord(id=c.id, tokens=(c.id % 2, 0, 1), architecture_id="", reward=c.reward, outcome=c.outcome)
        for c in children
    ]


def test_members_are_ranked_only_where_a_parent_is_selected_and_once_while_they_are_the_same(
    ranked: list[int],
) -> None:
    searcher = Evolution(BitStrings(length=3), EvolutionOptions(population=20, dies="none", crossover=1.0), COST)
    history = bits(random_members(30))
    for ended in range(20):
        ask(searcher, history[:ended])
    assert ranked == []
    for _ in range(3):
        ask(searcher, history[:20], n=4)
    assert ranked == [20]
    ask(searcher, history[:25])
    assert ranked == [20, 25]


@pytest.mark.parametrize(("dies", "size"), [("oldest", None), ("none", None), ("worst", 10), ("lowest", 11)])
def test_a_history_is_read_again_with_one_ranking_a_child_at_most(
    ranked: list[int], dies: Any, size: int | None
) -> None:
    Population(EvolutionOptions(population=10, dies=dies), COST).after(random_members(60))
    assert ranked == ([] if size is None else [size] * 50)


@pytest.mark.parametrize("dies", ["oldest", "worst", "lowest", "none"])
def test_the_kept_key_is_that_of_the_present_members(dies: Any) -> None:
    history = random_members(80)
    options = EvolutionOptions(population=10, tournament=4, dies=dies)
    population = Population(options, COST)
    for ended in range(1, 81):
        alive = population.after(history[:ended])
        anew = key_among(alive, COST)
        assert [population.key(member) for member in alive] == [anew(member) for member in alive]
    assert population.after(history[:12]) == Population(options, COST).after(history[:12])
