"""The loop, killed before and after every single call that it makes, and started again."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from child_trainer.outcome import Budget, Outcome
from cluster.config import RunConfig, TaskOptions, Topology
from cluster.evaluator import Assignment, InProcessEvaluator
from cluster.ledger import Ledger
from cluster.parts import initial_values, make_layout, make_parameters, make_replica, make_searcher
from cluster.replica import replica_loop
from cluster.training import Trainer
from controller.spaces.convolutional import ConvolutionalSpace
from ps.local import LocalStore
from ps.store import ParameterStore

CONFIG = RunConfig(
    task=TaskOptions(task="synthetic"),
    budget=Budget(epochs=1),
    topology=Topology(replicas=1, shards=2, children=2),
    max_children=5,
    convolutional=ConvolutionalSpace(initial_depth=2, max_depth=2),
)


class Killed(BaseException):
    """The process ends here. No `except Exception` sees it."""


class Mortal:
    """Passes calls on and dies before or after the n-th of those it shares a counter with."""

    def __init__(self, inner: object, count: Iterator[int], dies_at: int, *, after: bool) -> None:
        self._inner, self._count, self._dies_at, self._after = inner, count, dies_at, after

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            fatal = next(self._count) == self._dies_at
            if fatal and not self._after:
                raise Killed
            result = method(*args, **kwargs)
            if fatal:
                raise Killed
            return result

        return call


class Run:
    """One search whose process may die; the folder stays."""

    def __init__(self, folder: Path, config: RunConfig = CONFIG) -> None:
        self.folder, self.config = folder, config
        self.folder.mkdir(exist_ok=True)
        self.trained: list[int] = []
        self.calls = 0

    def start(self, dies_at: int = -1, *, after: bool = False) -> int:
        """Run until the end or the death; gives the number of calls made."""
        counter = itertools.count()
        ledger = Ledger(self.folder / "ledger.sqlite", self.config.seed, self.config.max_children, clock=lambda: 0.0)
        ledger.begin(workers=1)
        groups = make_parameters(self.config, make_searcher(self.config))
        store = LocalStore(make_layout(self.config, "run", groups), self.folder / "shards") if groups else None
        if store:
            store.initialize(initial_values(groups))
        trainer = Trainer(self.config)

        trained = self.trained

        class Counting:
            """The trainer, which notes whom it trains."""

            def train(self, assignment: Assignment, **options: Any) -> Outcome:
                trained.append(assignment.child_id)
                return trainer.train(assignment, **options)

        mortal_ledger: Any = Mortal(ledger, counter, dies_at, after=after)
        mortal_store: ParameterStore | None = store and Mortal(store, counter, dies_at, after=after)  # type: ignore[assignment]
        reactions = self.config.failures.reactions
        inner = InProcessEvaluator(Counting(), mortal_ledger, reactions, batch_size=self.config.budget.batch_size)
        evaluator: Any = Mortal(inner, counter, dies_at, after=after)
        try:
            for _ in replica_loop(make_replica(self.config, 0, mortal_store, evaluator, mortal_ledger)):
                pass
        except Killed:
            pass
        finally:
            ledger.close()
            if store:
                self.values = store.pull().values
                self.pushes = [status.pushes for status in store.status()]
                store.close()
        return next(counter)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.folder / "ledger.sqlite")
        found = db.execute(query).fetchall()
        db.close()
        return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    run.calls = run.start()
    assert run.calls > 20
    return run


def test_an_undisturbed_run_ends_at_its_limit(undisturbed: Run) -> None:
    assert undisturbed.trained == [1, 2, 3, 4, 5]
    assert undisturbed.rows("SELECT number, pushed FROM batches") == [(1, 1), (2, 1), (3, 1)]
    assert undisturbed.pushes == [3, 3]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_any_call_loses_nothing_and_repeats_nothing(undisturbed: Run, tmp_path: Path, after: bool) -> None:
    for dies_at in range(undisturbed.calls):
        run = Run(tmp_path / str(dies_at))
        run.start(dies_at, after=after)
        finished = {row[0] for row in run.rows("SELECT id FROM children WHERE completion IS NOT NULL")}
        before = len(run.trained)
        run.start()
        assert not finished & set(run.trained[before:]), f"call {dies_at}: finished training was repeated"
        assert run.rows("SELECT id, state FROM children") == [(i, "finished") for i in range(1, 6)], dies_at
        assert run.rows("SELECT number, pushed FROM batches") == [(1, 1), (2, 1), (3, 1)], dies_at
        assert run.pushes == [3, 3], f"call {dies_at}: a push was lost or applied twice"
        # Nothing of the first batch depends on when the process died.
        first = "SELECT tokens, seed, reward FROM children WHERE batch = 1"
        assert run.rows(first) == undisturbed.rows(first), dies_at


def test_a_push_whose_record_was_lost_is_not_applied_again(undisturbed: Run, tmp_path: Path) -> None:
    """Where only the word that a push was applied is lost, the final weights are the undisturbed run's to the bit."""
    deaths = 0
    for dies_at in range(undisturbed.calls):
        run = Run(tmp_path / str(dies_at))
        run.start(dies_at, after=True)
        ((learned,),) = run.rows("SELECT count(learned_at) FROM batches")
        if run.pushes[0] > learned:
            deaths += 1
            run.start()
            assert all(torch.equal(run.values[name], value) for name, value in undisturbed.values.items())
    assert deaths == 3


def test_random_search_needs_no_store(tmp_path: Path) -> None:
    run = Run(tmp_path, replace(CONFIG, searcher="random"))
    run.start()
    assert run.trained == [1, 2, 3, 4, 5]
    assert run.rows("SELECT DISTINCT pushed FROM batches") == [(0,)]
