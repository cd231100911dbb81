"""A searcher that waits for its pending children, ends the search, and repeats what it knows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.searcher import ChildRecord, Proposal, Searcher, Update, View
from controller.spaces.nasbench201 import NasBench201Space
from tests.cluster.search.test_replica import CONFIG, Run
from tests.lengths import FACTOR

SIZE = 4
"""Children of a generation."""


class Generations:
    """Two generations of four children; the last child of the second repeats the best of the first."""

    exclusive = True

    def __init__(self, configured: Searcher) -> None:
        self._space = NasBench201Space()

    def parameters(self, seed: int) -> tuple[Any, ...]:
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        known = sorted([*view.history(), *view.pending()], key=lambda child: child.id)
        number = max((child.notes["generation"] for child in known), default=0)
        begun = sum(child.notes["generation"] == number for child in known)
        if begun in (0, SIZE):
            if view.pending() or number == 2:
                return []
            number, begun = number + 1, 0
        return [self._proposal(number, place, view.history()) for place in range(begun, min(begun + n, SIZE))]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        return Update()

    def _proposal(self, number: int, place: int, history: Sequence[ChildRecord]) -> Proposal:
        notes = {"generation": number, "place": place}
        if number == 2 and place == SIZE - 1:
            best = max(history, key=lambda child: child.reward or 0.0)
            again = self._space.decode(best.tokens)
            return Proposal(tokens=best.tokens, architecture=again, notes=notes, same_as=best.id)
        tokens = (number, place, 0, 1, 2, 3)
        return Proposal(tokens=tokens, architecture=self._space.decode(tokens), notes=notes)


def config(replicas: int, batching: Any) -> Any:
    topology = replace(CONFIG.topology, replicas=replicas, children=3, batching=batching)
    return replace(
        CONFIG.with_searcher("random"),
        space="nasbench201",
        space_options=NasBench201Space(),
        topology=topology,
        max_children=20,
    )


def check(run: Run) -> None:
    """Both generations are whole, each child was trained once, and the second began after the first had ended."""
    notes = run.rows("SELECT json_extract(notes, '$.generation'), json_extract(notes, '$.place') FROM children")
    assert sorted(notes) == [(number, place) for number in (1, 2) for place in range(SIZE)]
    ((reused, known),) = run.rows("SELECT id, same_as FROM children WHERE same_as IS NOT NULL")
    pair = "(SELECT metric, reward, architecture_id FROM children WHERE id = {})"
    assert run.rows(pair.format(reused)[1:-1]) == run.rows(pair.format(known)[1:-1])
    assert run.rows(f"SELECT seconds, state FROM children WHERE id = {reused}") == [(0.0, "finished")]
    assert run.rows(f"SELECT count(*) FROM attempts WHERE child = {reused}") == [(0,)]
    first, second = (
        run.rows(f"SELECT completion FROM children WHERE json_extract(notes, '$.generation') = {number}")
        for number in (1, 2)
    )
    assert sorted(first) == [(n,) for n in range(1, SIZE + 1)]
    assert len(second) == SIZE
    assert run.rows("SELECT count(*) FROM children WHERE batch = 0") == [(0,)]
    assert run.rows("SELECT count(*) FROM batches WHERE learned_at IS NULL") == [(0,)]


@pytest.mark.parametrize("batching", ["barrier", "stream"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_generations_are_whole_and_the_search_ends_by_itself(tmp_path: Path, replicas: int, batching: str) -> None:
    run = Run(tmp_path, config(replicas, batching), searcher=Generations)
    run.start()
    check(run)
    assert sorted(run.trained) == sorted(set(run.trained))
    assert len(run.trained) == 2 * SIZE - 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_death_at_any_call_leaves_the_generations_whole(tmp_path: Path, batching: str, after: bool) -> None:
    undisturbed = Run(tmp_path / "undisturbed", config(2, batching), searcher=Generations)
    calls = undisturbed.start()
    children = "SELECT tokens, reward, notes, seed FROM children ORDER BY notes"
    for dies_at in range(0, calls, 1 if FACTOR > 1 else 3):
        run = Run(tmp_path / str(dies_at), config(2, batching), searcher=Generations)
        run.start(dies_at, after=after)
        run.start()
        check(run)
        assert [row[:3] for row in run.rows(children)] == [row[:3] for row in undisturbed.rows(children)], dies_at


def test_the_last_batch_of_a_search_that_ends_early_is_learnt(tmp_path: Path) -> None:
    run = Run(tmp_path, config(1, "stream"), searcher=Generations)
    run.start()
    assert run.rows("SELECT batch, count(*) FROM children GROUP BY batch") == [(1, 3), (2, 3), (3, 2)]


def test_the_runs_limit_ends_a_search_that_would_go_on(tmp_path: Path) -> None:
    for batching in ("barrier", "stream"):
        run = Run(tmp_path / batching, replace(config(2, batching), max_children=6), searcher=Generations)
        run.start()
        assert run.rows("SELECT id, state FROM children") == [(n, "finished") for n in range(1, 7)]
        assert run.rows("SELECT count(*) FROM batches WHERE learned_at IS NULL") == [(0,)]


class Repeats(Generations):
    """Gives a child the outcome of one that does not fit."""

    def __init__(self, configured: Searcher, known: int) -> None:
        super().__init__(configured)
        self._known = known

    def _proposal(self, number: int, place: int, history: Sequence[ChildRecord]) -> Proposal:
        proposal = super()._proposal(number, place, history)
        return replace(proposal, same_as=self._known) if number == 2 else proposal


@pytest.mark.parametrize(("known", "reason"), [(99, "which has not ended"), (2, "which has another architecture")])
def test_an_outcome_that_is_not_the_childs_is_refused(tmp_path: Path, known: int, reason: str) -> None:
    run = Run(tmp_path, config(1, "barrier"), searcher=lambda configured: Repeats(configured, known))
    with pytest.raises(ValueError, match=f"gives child 5 the outcome of child {known}, {reason}"):
        run.start()


class Greedy(Generations):
    """Returns more than it was asked for."""

    def ask(self, n: int, view: View) -> list[Proposal]:
        return super().ask(n + 1, view)


def test_more_proposals_than_asked_for_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, config(1, "barrier"), searcher=Greedy)
    with pytest.raises(ValueError, match="asked for at most 3 proposals, and returned 4"):
        run.start()
