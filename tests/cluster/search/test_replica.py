"""The loop, killed before and after every single call that it makes, and started again."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch

from child_trainer.outcome import Budget, Outcome
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.runners.build import initial_values, local_store, make_layout, make_parameters, make_replica
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.on_ray.replica_store import ReplicaStore
from cluster.runners.shared_weights import local_weights
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.replica_loop import replica_loop
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Searcher
from controller.spaces.convolutional import ConvolutionalSpace
from ps.local import LocalStore
from ps.store import Ack, Layout, Push, Snapshot

CONFIG = RunConfig(
    task=TaskOptions(task="synthetic"),
    budget=Budget(epochs=1),
    topology=Topology(replicas=1, shards=2, children=2),
    max_children=5,
    space_options=ConvolutionalSpace(initial_depth=2, max_depth=2),
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


class PushAndPull:
    """A store whose push also pulls, as over gRPC."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def push_and_pull(self, push: Push) -> tuple[Ack, Snapshot | None]:
        ack = self._inner.push(push)
        return ack, None if ack.duplicate else self._inner.pull(client=push.client)


class Run:
    """One search whose process may die; the folder stays.

    Args:
        folder: of the run.
        config: the run's.
        order: stands between the loop and what trains children.
        searcher: makes a replica's searcher from the configured one.
        on_ray: whether a push brings back what is pulled next.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig = CONFIG,
        order: Callable[[Evaluator], Evaluator] = lambda inner: inner,
        searcher: Callable[[Searcher], Searcher] = lambda configured: configured,
        *,
        on_ray: bool = False,
    ) -> None:
        self.on_ray = on_ray
        self.folder, self.config, self.order, self.searcher = folder, config, order, searcher
        self.folder.mkdir(exist_ok=True)
        self.trained: list[int] = []
        self.calls = 0

    def start(self, dies_at: int = -1, *, after: bool = False) -> int:
        """Run until the end or the death; gives the number of calls made."""
        counter = itertools.count()
        ledger = Ledger(self.folder / "ledger.sqlite", self.config.seed, self.config.max_children, clock=lambda: 0.0)
        ledger.begin(workers=1)
        store = local_store(self.config, "run", self.folder / "shards")
        weights = local_weights(self.config, "run", self.folder / "weights")
        mortal_weights: Any = weights and Mortal(weights, counter, dies_at, after=after)
        mortal_store: Any = store and Mortal(PushAndPull(store), counter, dies_at, after=after)
        trainer = Trainer(self.config, weights=mortal_weights, policy=mortal_store)

        trained = self.trained

        class Counting:
            """The trainer, which notes whom it trains."""

            def train(self, assignment: Assignment, **options: Any) -> Outcome:
                trained.append(assignment.child_id)
                return trainer.train(assignment, **options)

        mortal_ledger: Any = Mortal(ledger, counter, dies_at, after=after)
        policy = self.config.failures.policy

        def loop(index: int) -> Iterator[None]:
            inner = InProcessEvaluator(Counting(), mortal_ledger, policy, batch_size=self.config.budget.batch_size)
            evaluator: Any = Mortal(self.order(inner), counter, dies_at, after=after)
            its_store = ReplicaStore(mortal_store) if self.on_ray else mortal_store
            replica = make_replica(self.config, index, its_store, evaluator, mortal_ledger)
            return replica_loop(replace(replica, searcher=self.searcher(replica.searcher)))

        try:
            # The replicas take turns.
            for _ in zip_longest(*(loop(index) for index in range(self.config.topology.replicas))):
                pass
        except Killed:
            pass
        finally:
            ledger.close()
            if weights:
                self.weights = weights.pull().values
                self.steps = [status.pushes for status in weights.status()]
                weights.close()
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


ROWS = "SELECT id, replica, batch, tokens, log_prob, seed, reward, completion FROM children"


def test_a_push_that_brings_back_the_next_pull_changes_nothing_but_the_number_of_calls(
    undisturbed: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path, on_ray=True)
    assert run.start() == undisturbed.calls - 3
    assert run.rows(ROWS) == undisturbed.rows(ROWS)
    assert all(torch.equal(run.values[name], value) for name, value in undisturbed.values.items())


@pytest.mark.parametrize("on_ray", [False, True], ids=["pulls", "pushes and pulls at once"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_any_call_loses_nothing_and_repeats_nothing(
    undisturbed: Run, tmp_path: Path, after: bool, on_ray: bool
) -> None:
    for dies_at in range(undisturbed.calls - 3 * on_ray):
        run = Run(tmp_path / str(dies_at), on_ray=on_ray)
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
    run = Run(tmp_path, CONFIG.with_searcher("random"))
    run.start()
    assert run.trained == [1, 2, 3, 4, 5]
    assert run.rows("SELECT DISTINCT pushed FROM batches") == [(0,)]


@pytest.mark.parametrize("damage", ["torn", "empty", "another's bytes"])
def test_what_a_damaged_snapshot_has_lost_is_learnt_again_and_nothing_twice(
    undisturbed: Run, tmp_path: Path, damage: str
) -> None:
    """One shard falls back to its last snapshot but one; the batch behind the lost push is still in the ledger."""
    again = 0
    for dies_at in range(undisturbed.calls):
        run = Run(tmp_path / str(dies_at))
        run.start(dies_at, after=True)
        newest = run.folder / "shards" / "shard-001.safetensors"
        if not (newest.parent / "shard-001.previous.safetensors").exists():
            continue
        data = newest.read_bytes()
        newest.write_bytes({"torn": data[: len(data) // 2], "empty": b"", "another's bytes": data[::-1]}[damage])
        ((learned,),) = run.rows("SELECT count(learned_at) FROM batches")
        run.start()
        assert run.pushes == [3, 3], f"call {dies_at}: an acknowledged push was lost or applied twice"
        assert run.rows("SELECT number, pushed, learned_at IS NULL FROM batches") == [(1, 1, 0), (2, 1, 0), (3, 1, 0)]
        assert sorted(set(run.trained)) == [1, 2, 3, 4, 5]
        again += learned > 0
    assert again > 5


class FallingBack:
    """A store one of whose shards dies between a pull and the push that follows, and restores its last but one."""

    def __init__(self, layout: Layout, folder: Path, falls_at: int) -> None:
        self._layout, self._folder, self._falls_at = layout, folder, falls_at
        self.inner = LocalStore(layout, folder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def push(self, push: Push) -> Ack:
        if push.sequence == self._falls_at:
            self._falls_at = 0
            self.inner.close()
            newest = self._folder / "shard-001.safetensors"
            newest.write_bytes(newest.read_bytes()[:-1])
            self.inner = LocalStore(self._layout, self._folder)
        return self.inner.push(push)


@pytest.mark.parametrize("on_ray", [False, True], ids=["pulls", "pushes and pulls at once"])
@pytest.mark.parametrize("falls_at", [2, 3])
def test_a_shard_that_falls_back_under_a_live_replica_loses_nothing(
    tmp_path: Path, falls_at: int, on_ray: bool
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", CONFIG.seed, CONFIG.max_children, clock=lambda: 0.0)
    ledger.begin(workers=1)
    groups = make_parameters(CONFIG, CONFIG.make_searcher())
    store: Any = FallingBack(make_layout(CONFIG, "run", groups), tmp_path / "shards", falls_at)
    store.initialize(initial_values(groups))
    trainer = Trainer(CONFIG)
    evaluator = InProcessEvaluator(trainer, ledger, CONFIG.failures.policy, batch_size=CONFIG.budget.batch_size)
    pulling: Any = PushAndPull(store)
    its_store = ReplicaStore(pulling) if on_ray else store
    for _ in replica_loop(make_replica(CONFIG, 0, its_store, evaluator, ledger)):
        pass
    assert [status.pushes for status in store.status()] == [3, 3]
    assert all(len(ledger.attempts(child)) == 1 for child in range(1, 6))  # nothing was trained again for it
    assert ledger.open_batch(0, 3) is None
    ledger.close()
    store.close()


def test_a_ledger_behind_the_shards_numbers_its_next_batch_above_theirs(tmp_path: Path) -> None:
    """Else the shards would take the new batch's push for one that they have."""
    run = Run(tmp_path)
    run.start()
    (tmp_path / "ledger.sqlite").unlink()
    run.start()
    assert run.rows("SELECT number, pushed FROM batches") == [(4, 1), (5, 1), (6, 1)]
    assert run.pushes == [6, 6]


def test_dropped_children_are_kept_from_the_searcher(tmp_path: Path) -> None:
    """Of the first batch nothing is left to learn from; its empty push arrives, and is stale by nothing."""
    faults = TaskOptions(task="synthetic", options=SyntheticOptions(child_faults="diverged=1"))
    run = Run(tmp_path, replace(CONFIG, task=faults, failures=FailureOptions(on_failure="diverged=drop")))
    run.start()
    assert run.rows("SELECT DISTINCT state, reward, cause FROM children") == [("failed", None, "diverged")]
    batches = [(n, 1, "[]", "{}") for n in (1, 2, 3)]
    assert run.rows("SELECT number, pushed, staleness, figures FROM batches") == batches
    assert run.pushes == [3, 3]
    groups = make_parameters(CONFIG, CONFIG.make_searcher())
    assert all(torch.equal(run.values[name], value) for name, value in initial_values(groups).items())
