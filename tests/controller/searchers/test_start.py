"""A search begins with given architectures, and its searcher goes on from them."""

import random
from collections.abc import Sequence

import pytest

from child_trainer.outcome import Outcome
from controller.catalogue import SEARCHERS
from controller.searcher import ChildRecord, Proposal, Searcher, View, is_exclusive, keeps_weights, passes_of
from controller.searchers.evolutionary.evolution import Evolution
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.given import GivenOptions, sample_text
from controller.searchers.start import StartWith
from controller.spaces.nasbench201 import NasBench201Space
from tests.contracts.searcher import SearcherContract, recorded

SPACE = NasBench201Space(cells_per_stage=1, stem_channels=4)

SAMPLES = ("0,1,2,3,4,0", "3,3,3,3,3,3", "1,2,1,2,1,2")

LEARNS_FROM_ANY = sorted(name for name, entry in SEARCHERS.items() if entry.learns_from_any)


class TestContract(SearcherContract):
    samples_after = 3

    def make(self) -> Searcher:
        return StartWith(Evolution(SPACE, EvolutionOptions()), SPACE, GivenOptions(samples=SAMPLES))

    def test_another_seed_gives_other_proposals(self, searcher: Searcher) -> None:
        """Once the given ones have begun."""
        asked = [searcher.ask(4, seen(ended(SAMPLES), seed)) for seed in (0, 1)]
        assert asked[0] != asked[1]

    def test_begins_with_as_many_as_wanted(self, searcher: Searcher, n: int = 2) -> None:
        """It gives the given ones first, which are fewer if more are wanted."""
        assert len(searcher.ask(n, seen([]))) == n


def ended(samples: Sequence[str]) -> list[ChildRecord]:
    found: list[ChildRecord] = []
    for number, text in enumerate(samples, start=1):
        tokens = tuple(map(int, text.split(",")))
        proposal = Proposal(tokens=tokens, architecture=SPACE.decode(tokens))
        outcome = Outcome(curve=(number / 10,), seconds=1.0, parameters=1, flops=1, seed=0)
        found.append(recorded(number, proposal, outcome, number / 10))
    return found


def seen(history: Sequence[ChildRecord], seed: int = 0, pending: Sequence[ChildRecord] = ()) -> View:
    return View(
        parameters={},
        completed=len(history),
        history=lambda: history,
        pending=lambda: pending,
        rng=random.Random(seed),
    )


@pytest.mark.parametrize("name", LEARNS_FROM_ANY)
def test_each_such_searcher_goes_on_as_from_children_of_its_own(name: str) -> None:
    entry = SEARCHERS[name]
    searcher, alone = (entry.build(SPACE, entry.options()) for _ in range(2))
    start = StartWith(searcher, SPACE, GivenOptions(samples=SAMPLES, sources=("a", "b", "c")))
    history = ended(SAMPLES)
    assert is_exclusive(start)
    assert [sample_text(p.tokens) for p in start.ask(2, seen([]))] == list(SAMPLES[:2])
    pending = [child for child in history if child.id == 3]
    (third,) = start.ask(4, seen(history[:1], pending=[history[1]]))
    assert (sample_text(third.tokens), third.notes) == (SAMPLES[2], {"source": "c"})
    assert start.ask(4, seen(history[:2], 7, pending)) == alone.ask(4, seen(history[:2], 7, pending))
    assert start.ask(4, seen(history, 8)) == alone.ask(4, seen(history, 8))
    assert is_exclusive(start) == is_exclusive(alone)  # from now on replicas need not wait for one another
    assert start.learn(history, seen(history)) == alone.learn(history, seen(history))
    assert (passes_of(start), keeps_weights(start)) == (passes_of(alone), keeps_weights(alone))


def test_evolution_chooses_its_parents_among_the_given_ones() -> None:
    options = EvolutionOptions(population=3, tournament=3)
    start = StartWith(Evolution(SPACE, options), SPACE, GivenOptions(samples=SAMPLES))
    (child,) = start.ask(1, seen(ended(SAMPLES)))
    assert child.notes["parent"] == 3


def test_what_is_no_sample_of_the_space_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`start_with` must be samples of the space .nasbench201., and the 2\. is none"
    ):
        StartWith(Evolution(SPACE, EvolutionOptions()), SPACE, GivenOptions(samples=(SAMPLES[0], "9,9,9,9,9,9")))
