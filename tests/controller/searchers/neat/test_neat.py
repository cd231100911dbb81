"""The searcher: generations of consecutive children, whichever replica asks for them (spec §15)."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from child_trainer.outcome import Cause, Outcome
from controller.catalogue import SEARCHERS
from controller.searcher import ChildRecord, Proposal, Searcher, View, is_exclusive
from controller.searchers.neat.neat import Neat
from controller.searchers.neat.options import NeatOptions
from controller.spaces.genomes import GenomeSpace
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.searcher import SearcherContract, recorded
from tests.controller.searchers.neat.xor import xor_fitness, xor_outputs, xor_solved

SPACE = GenomeSpace(inputs=2)
OPTIONS = NeatOptions(population=10)


class TestNeat(SearcherContract):
    def make(self) -> Searcher:
        return Neat(SPACE, OPTIONS)


class TestRecurrentNeat(SearcherContract):
    def make(self) -> Searcher:
        return Neat(GenomeSpace(inputs=3, recurrent=True), NeatOptions(population=5))


Judge = Callable[[Proposal, int], tuple[float | None, bool]]


def xor(proposal: Proposal, number: int) -> tuple[float | None, bool]:
    """The reward, and whether the task is solved."""
    outputs = xor_outputs(SPACE.genome(proposal.tokens))
    return xor_fitness(outputs), xor_solved(outputs)


@dataclass
class Search:
    """A search of several children at a time, which end in any order."""

    searcher: Searcher
    judge: Judge = xor
    seed: int = 0
    begun: list[Proposal] = field(default_factory=list)
    ended: list[ChildRecord] = field(default_factory=list)

    def view(self) -> View:
        done = {child.id for child in self.ended}
        pending = [
            recorded(number, proposal, None, None)  # type: ignore[arg-type]
            for number, proposal in enumerate(self.begun, start=1)
            if number not in done
        ]
        return View(
            parameters={},
            completed=len(self.ended),
            history=lambda: tuple(self.ended),
            pending=lambda: pending,
            rng=random.Random(self.seed * 1_000_000 + len(self.begun)),
        )

    def ask(self, n: int) -> list[Proposal]:
        proposals = self.searcher.ask(n, self.view())
        self.begun += proposals
        return proposals

    def end(self, number: int) -> None:
        reward, solved = self.judge(self.begun[number - 1], number)
        outcome = Outcome(
            curve=() if reward is None else (reward,),
            seconds=0.0,
            parameters=1,
            flops=None,
            seed=number * 7,
            solved=solved,
        )
        self.ended.append(recorded(number, self.begun[number - 1], outcome, reward))

    def run(self, children: int, n: int = 4) -> "Search":
        """Until so many children have begun, or the search ends: ask for n, and end them, the last one first."""
        while len(self.begun) < children:
            first = len(self.begun) + 1
            count = len(self.ask(min(n, children - len(self.begun))))
            if not count:
                break
            for number in reversed(range(first, first + count)):
                self.end(number)
        return self


def search(options: NeatOptions = OPTIONS, judge: Judge = xor) -> Search:
    return Search(Neat(SPACE, options), judge)


def never_solved(proposal: Proposal, number: int) -> tuple[float | None, bool]:
    return xor(proposal, number)[0], False


def test_a_generation_has_as_many_children_as_the_population() -> None:
    run = search()
    assert [len(run.ask(4)) for _ in range(4)] == [4, 4, 2, 0]
    assert {proposal.notes["generation"] for proposal in run.begun} == {0}


def test_the_next_generation_waits_for_the_last_child_of_the_one_before() -> None:
    run = search()
    run.ask(10)
    for number in (3, 1, 2, 10, 9, 8, 7, 6, 5):
        run.end(number)
        assert run.ask(4) == []
    run.end(4)
    assert len(run.ask(100)) == 10
    assert {proposal.notes["generation"] for proposal in run.begun[10:]} == {1}


def test_a_generation_depends_on_the_one_before_and_not_on_who_asks_or_when_they_end() -> None:
    """Spec T15.3: innovation numbers, too, are the same whichever replica asks."""
    first, second = search(judge=never_solved), search(judge=never_solved)
    first.ask(10), second.ask(10)
    for number in range(1, 11):
        first.end(number)
        second.end(11 - number)
    second.seed = 5
    whole = first.ask(10)
    # Two other replicas, which ask in turn for three.
    replicas = [Neat(SPACE, OPTIONS), Neat(SPACE, OPTIONS)]
    parts: list[Proposal] = []
    while len(parts) < 10:
        second.searcher = replicas[len(parts) % 2]
        parts += second.ask(3)
    assert parts == whole


def test_an_offspring_has_its_parents_in_its_notes() -> None:
    run = search(judge=never_solved).run(30)
    for proposal in run.begun[20:]:
        assert proposal.notes["generation"] == 2
        assert 11 <= proposal.notes["parent"] <= 20
        assert 11 <= proposal.notes.get("other_parent", 11) <= 20
        assert proposal.notes["change"]
    copies = [proposal for proposal in run.begun if proposal.notes.get("change") == "champion"]
    assert copies
    assert all(copy.tokens == run.begun[copy.notes["parent"] - 1].tokens for copy in copies)


def test_the_tokens_decode_to_the_proposed_network() -> None:
    for proposal in search(judge=never_solved).run(40).begun:
        assert SPACE.decode(proposal.tokens) == proposal.architecture


def solved_at(number: int) -> Judge:
    return lambda proposal, child: (xor(proposal, child)[0], child == number)


def test_the_search_ends_with_the_generation_that_solves_the_task() -> None:
    run = search(judge=solved_at(13)).run(100)
    assert len(run.begun) == 20
    assert not run.view().pending()
    (solver,) = [child for child in run.ended if child.id == 13]
    assert run.searcher.learn([solver], run.view()).figures["best_fitness"] == solver.reward
    run = search(replace(OPTIONS, stop_when_solved=False), judge=solved_at(13)).run(45)
    assert len(run.begun) == 45


def test_children_without_a_reward_are_not_parents() -> None:
    def failing(proposal: Proposal, number: int) -> tuple[float | None, bool]:
        return (None, False) if number % 2 else never_solved(proposal, number)

    run = search(judge=failing).run(30)
    parents = {proposal.notes["parent"] for proposal in run.begun[10:]}
    assert all(parent % 2 == 0 for parent in parents)


def test_a_generation_without_any_reward_is_followed_by_new_random_ones() -> None:
    def failing(proposal: Proposal, number: int) -> tuple[float | None, bool]:
        return (None, False) if number <= 20 else never_solved(proposal, number)

    run = search(judge=failing).run(40)
    assert all("parent" not in proposal.notes for proposal in run.begun[:30])
    assert all(21 <= proposal.notes["parent"] <= 30 for proposal in run.begun[30:])
    assert len({proposal.tokens for proposal in run.begun[:30]}) == 30


def test_a_failed_child_with_the_reward_0_is_a_member_like_others() -> None:
    def failing(proposal: Proposal, number: int) -> tuple[float | None, bool]:
        return (0.0, False) if number == 3 else never_solved(proposal, number)

    run = search(judge=failing)
    run.ask(10)
    for number in range(1, 11):
        run.end(number)
    failed = replace(run.ended[2], outcome=Outcome.failed(Cause.CRASHED, "no", seed=1))
    run.ended[2] = failed
    assert len(run.ask(10)) == 10


def test_the_figures_are_those_that_it_lists() -> None:
    run = search(judge=never_solved).run(30)
    figures = run.searcher.learn(run.ended[-1:], run.view()).figures
    assert figures.keys() == {figure.name for figure in SEARCHERS["neat"].figures}
    best = max(run.ended, key=lambda child: child.reward or 0.0)
    assert figures["best_fitness"] == best.reward
    assert figures["generation"] == 3
    assert figures["links"] == sum(link.enabled for link in SPACE.genome(best.tokens).links)
    assert figures["hidden_nodes"] == len(SPACE.genome(best.tokens).hidden)
    early = search().run(4)
    assert early.searcher.learn(early.ended, early.view()).figures["generation"] == 0


def test_the_best_fitness_never_falls_where_the_champion_is_copied() -> None:
    options = replace(OPTIONS, population=30, champion_size=1)
    rewards = [child.reward for child in search(options, judge=never_solved).run(300).ended]
    best = [max(r for r in rewards[start : start + 30] if r is not None) for start in range(0, 300, 30)]
    assert best == sorted(best)


def test_no_two_replicas_may_ask_from_one_view() -> None:
    assert is_exclusive(Neat(SPACE, OPTIONS))


def test_another_space_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        ValueError, match="'neat' evolves networks with their weights: use the space 'genomes', got the space"
    ):
        Neat(NasBench201Space(), OPTIONS)


@pytest.mark.parametrize(
    ("option", "value", "wish"),
    [
        ("population", 1, "at least 2"),
        ("champion_size", 0, "at least 1"),
        ("species_patience", 0, "at least 1"),
        ("threshold", -1.0, "0 or more"),
        ("difference_weight", float("inf"), "0 or more"),
        ("survival", 1.5, "from 0 to 1"),
        ("stays_disabled", -0.5, "from 0 to 1"),
        ("mutate_weights", 2.0, "from 0 to 1"),
    ],
)
def test_impossible_options_are_refused(option: str, value: float, wish: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be .*{wish}"):
        NeatOptions(**{option: value})  # type: ignore[arg-type]


def test_a_search_of_less_than_two_generations_is_warned_of() -> None:
    assert NeatOptions().caution(299)
    assert NeatOptions().caution(300) is None
