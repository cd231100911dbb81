"""NEAT's searches in this process: killed at any call, with several replicas, and to the end of the task."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.neat.options import NeatOptions
from controller.spaces.genomes import GenomeSpace
from tests.cluster.runners.test_local import ledger, search
from tests.cluster.search.test_replica import Run
from tests.lengths import FACTOR

XOR = replace(
    RECIPES["neat-xor"](),
    local=True,
    max_children=200,
    searcher_options=NeatOptions(population=20, stop_when_solved=False),
    topology=Topology(replicas=1, shards=1, children=20),
)

CHILDREN = "SELECT id, tokens, notes, reward FROM children ORDER BY id"


def small(replicas: int, batching: Any, population: int = 8) -> RunConfig:
    """Three generations."""
    topology = Topology(replicas=replicas, shards=1, children=3, batching=batching)
    options = NeatOptions(population=population, add_node=0.3, add_link=0.3)
    return replace(XOR, max_children=3 * population, topology=topology, searcher_options=options)


@pytest.mark.parametrize("batching", ["barrier", "stream"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_generations_follow_one_another_with_any_number_of_replicas(
    tmp_path: Path, replicas: int, batching: str
) -> None:
    run = Run(tmp_path, small(replicas, batching))
    run.start()
    generations = run.rows("SELECT json_extract(notes, '$.generation') FROM children ORDER BY id")
    assert generations == [(number // 8,) for number in range(24)]
    # Each child of a generation was sampled after the generation before had ended.
    for generation in (1, 2):
        (last,) = run.rows(f"SELECT max(completion) FROM children WHERE id <= {8 * generation}")[0]
        assert last == 8 * generation
    assert sorted(run.trained) == list(range(1, 25))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_death_at_any_call_leaves_the_search_as_it_was(tmp_path: Path, batching: str, after: bool) -> None:
    config = small(2, batching, population=4)
    undisturbed = Run(tmp_path / "undisturbed", config)
    calls = undisturbed.start()
    first = undisturbed.rows(CHILDREN)[:4]
    for dies_at in range(1, calls, 5 if FACTOR > 1 else 11):
        run = Run(tmp_path / str(dies_at), config)
        run.start(dies_at, after=after)
        run.start()
        children = run.rows(CHILDREN)
        assert len(children) == 12
        if children[:4] == first:  # the first generation depends on which replica drew it, the others on the first
            assert children == undisturbed.rows(CHILDREN), dies_at


def test_a_search_that_dies_in_its_seventh_generation_finds_the_same_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.runners.trainer import Trainer

    search(XOR, tmp_path, "whole")
    train, count = Trainer.train, iter(range(1000))

    def dying(self: Trainer, assignment: Any, **options: Any) -> Any:
        if next(count) == 130:
            raise SystemError
        return train(self, assignment, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", dying)
        died = search(XOR, tmp_path, "parts")
    assert died.state == "failed"
    assert died.finished == 120
    resumed = search(XOR, tmp_path, "parts")
    assert resumed.state == "finished"
    assert ledger(tmp_path, "parts") == ledger(tmp_path, "whole")


def test_exclusive_or_is_solved_and_the_search_ends(tmp_path: Path) -> None:
    config = replace(RECIPES["neat-xor"](), local=True, seed=1)
    status = search(config, tmp_path)
    assert status.state == "finished"
    assert status.finished % 150 == 0
    assert status.finished < config.max_children
    outcomes = ledger_outcomes(tmp_path)
    assert any('"solved":true' in text for text in outcomes[-150:])
    assert not any('"solved":true' in text for text in outcomes[:-150])


def ledger_outcomes(storage: Path) -> list[str]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(storage / "run" / "ledger.sqlite")) as db:
        return [text for (text,) in db.execute("SELECT outcome FROM children ORDER BY id")]


def test_random_search_works_on_genomes(tmp_path: Path) -> None:
    assert search(replace(XOR.with_searcher("random"), max_children=12), tmp_path).finished == 12


def test_evolution_works_on_genomes_by_mutation(tmp_path: Path) -> None:
    options = EvolutionOptions(population=4, tournament=2)
    topology = Topology(replicas=1, shards=1, children=2)
    config = replace(XOR, searcher="evolution", searcher_options=options, topology=topology, max_children=40)
    assert search(config, tmp_path).finished == 40
    crossed = replace(config, searcher_options=replace(options, crossover=0.5))
    with pytest.raises(ValueError, match="`crossover` must be 0, as the samples of the space 'genomes' have no fixed"):
        search(crossed, tmp_path, "crossed")


@pytest.mark.parametrize("searcher", ["reinforce", "ppo", "q-learning", "bayesian", "local-search"])
def test_searchers_of_decisions_say_that_they_cannot(searcher: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"the searcher '{searcher}' chooses decision by decision"):
        search(replace(XOR.with_searcher(searcher), max_children=12), tmp_path)


def test_neat_needs_genomes_and_a_task_of_their_size() -> None:
    with pytest.raises(ValueError, match=r"space 'genomes' and leave its options as they are, got 'genomes' with"):
        replace(XOR, space_options=GenomeSpace(inputs=3))
    with pytest.raises(ValueError, match="the task 'double-pole' knows networks of its own space only"):
        replace(XOR, task=TaskOptions(task="double-pole"))
