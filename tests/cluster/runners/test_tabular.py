"""Whole searches of a table in this process, without Ray: by each searcher, and with the process killed on the way."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from child_trainer.tasks.catalogue import load_table
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.search.history import History
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Proposal
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.q_learning.options import QLearningOptions
from controller.spaces.nasbench201 import NasBench201Space
from tests.cluster.runners.test_local import SYNTHETIC, ledger, search
from tests.lengths import LONG
from tests.real_data import real


@pytest.fixture
def config() -> RunConfig:
    recipe = RECIPES["nasbench201"]()
    return replace(
        recipe,
        local=True,
        max_children=60,
        task=replace(recipe.task, data=real("nasbench201")),
        topology=Topology(replicas=1, shards=2, children=4),
    )


def with_searcher(config: RunConfig, name: str) -> RunConfig:
    """With a population, or a schedule, that fits a few dozen children."""
    options = {
        "evolution": EvolutionOptions(population=10, tournament=3),
        "q-learning": QLearningOptions(schedule_models=20, q_learning_rate=0.3),
    }
    return replace(config, searcher=name, searcher_options=options.get(name))


@pytest.mark.parametrize("searcher", ["random", "evolution", "local-search", "reinforce", "q-learning"])
def test_a_table_is_searched_and_its_seconds_are_in_the_ledger(
    searcher: Any, config: RunConfig, tmp_path: Path
) -> None:
    status = search(replace(with_searcher(config, searcher), max_children=24), tmp_path)
    assert (status.state, status.finished, status.failed) == ("finished", 24, 0)
    assert status.best is not None
    table = load_table("nasbench201", data=Path(str(config.task.data)))
    answer = table.answer(status.best.architecture)
    assert (status.best.metric, status.best.seconds) == (answer.metric, answer.seconds)
    assert status.best.parameters == answer.parameters


@pytest.mark.parametrize("dies", ["oldest", "worst"])
def test_evolution_beats_random_search(dies: Any, config: RunConfig, tmp_path: Path) -> None:
    config = replace(config, max_children=200)
    options = EvolutionOptions(population=20, tournament=5, dies=dies)
    evolving = replace(config, searcher="evolution", searcher_options=options)
    evolved = search(evolving, tmp_path, "evolution").recent_reward
    drawn = search(config.with_searcher("random"), tmp_path, "random").recent_reward
    assert evolved is not None
    assert drawn is not None
    assert evolved > drawn + 0.05


@pytest.mark.parametrize(
    ("call", "searcher"),
    [
        *((1, "evolution"), (30, "local-search")),
        *(pytest.param(call, "evolution", marks=LONG) for call in (9, 30, 42)),
        *(pytest.param(call, "local-search", marks=LONG) for call in (1, 9, 42)),
    ],
)
def test_a_killed_search_goes_on_as_if_nothing_had_been(
    call: int, searcher: Any, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The death is an error of our own in the middle of a batch: what that batch had recorded is not there."""
    from cluster.runners.trainer import Trainer

    config = with_searcher(config, searcher)
    search(config, tmp_path, "whole")
    train, count = Trainer.train, iter(range(1000))

    def dying(self: Trainer, assignment: Any, **options: Any) -> Any:
        if next(count) == call:
            raise SystemError
        return train(self, assignment, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", dying)
        died = search(config, tmp_path, "parts")
    assert died.state == "failed"
    assert died.finished == call // 4 * 4
    assert search(config, tmp_path, "parts").state == "finished"
    assert ledger(tmp_path, "parts") == ledger(tmp_path, "whole")


@pytest.mark.parametrize(
    ("call", "batching"),
    [(1, "barrier"), (25, "stream"), pytest.param(1, "stream", marks=LONG), pytest.param(25, "barrier", marks=LONG)],
)
def test_a_killed_search_takes_the_same_known_outcomes_again(
    batching: Any, call: int, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-learning gives children the outcome of earlier ones, which takes no training and no time."""
    from cluster.runners.trainer import Trainer

    config = with_searcher(replace(config, topology=replace(config.topology, batching=batching)), "q-learning")
    search(config, tmp_path, "whole")
    with closing(sqlite3.connect(tmp_path / "whole" / "ledger.sqlite")) as db:
        repeated = db.execute(
            "SELECT a.seconds, a.metric = b.metric, a.architecture_id = b.architecture_id, b.same_as"
            " FROM children a JOIN children b ON a.same_as = b.id"
        ).fetchall()
    assert repeated
    assert set(repeated) == {(0.0, 1, 1, None)}
    train, count = Trainer.train, iter(range(1000))

    def dying(self: Trainer, assignment: Any, **options: Any) -> Any:
        if next(count) == call:
            raise SystemError
        return train(self, assignment, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", dying)
        assert search(config, tmp_path, "parts").state == "failed"
    assert search(config, tmp_path, "parts").state == "finished"
    assert ledger(tmp_path, "parts")["children"] == ledger(tmp_path, "whole")["children"]


def test_networks_of_another_size_are_refused_before_anything_starts(config: RunConfig) -> None:
    with pytest.raises(ValueError, match="knows networks of its own space only"):
        replace(config, space_options=NasBench201Space(cells_per_stage=1))
    with pytest.raises(ValueError, match="knows networks of its own space only"):
        replace(config, space="convolutional", space_options=None)
    with pytest.raises(ValueError, match="`epochs` must be 12, which is all that this table has, got 50"):
        replace(config, budget=replace(config.budget, epochs=50))
    with pytest.raises(ValueError, match="`train_fraction` must be 1, as this table has trainings on all"):
        replace(config, budget=replace(config.budget, train_fraction=0.5))


def test_only_what_takes_no_time_and_can_come_to_no_harm_is_instant() -> None:
    task = SYNTHETIC.task
    assert task.instant
    assert RECIPES["nasbench201"]().task.instant
    assert not replace(task, options=SyntheticOptions(child_seconds=0.1)).instant
    assert not replace(task, options=SyntheticOptions(child_faults="crashed=0.1")).instant
    assert not RECIPES["digits"]().task.instant


def proposals(count: int) -> list[Proposal]:
    space = NasBench201Space(cells_per_stage=1)
    return [Proposal(tokens=(i,) * 6, architecture=space.decode((i,) * 6)) for i in range(count)]


def test_what_is_recorded_together_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    book, reader = Ledger(path, 0, 100), Ledger(path, 0, 100)
    with book.together():
        book.admit(0, 1, proposals(2), ())
        book.start(1, "here", "1-1")
        assert len(book.pending()) == 2
        assert not reader.pending()
    assert len(reader.pending()) == 2
    with pytest.raises(SystemError), book.together():
        book.admit(0, 2, proposals(2), ())
        raise SystemError
    assert len(book.pending()) == len(reader.pending()) == 2
    book.admit(0, 3, proposals(1), ())
    assert len(reader.pending()) == 3


def test_a_history_that_grows_is_the_whole_one(tmp_path: Path) -> None:
    from child_trainer.outcome import Outcome

    book = Ledger(tmp_path / "ledger.sqlite", 0, 100)
    history = History(book)
    assert list(history()) == []
    book.admit(0, 1, proposals(5), ())
    for child, reward in ((3, 0.5), (1, None), (5, 0.0), (2, None), (4, 0.25)):
        outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=None, flops=None, seed=child)
        book.finish(child, outcome, reward)
        assert list(history()) == list(book.history())
    assert [(child.id, child.reward) for child in history()] == [(3, 0.5), (1, None), (5, 0.0), (2, None), (4, 0.25)]
    assert [child.id for child in book.history(5)] == [2, 4]
