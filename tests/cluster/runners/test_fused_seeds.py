"""`--fuse-seeds`: several seeds of a network are one training, and in the ledger each is a child of its own."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import FUSED, Budget, Cause, Outcome
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.pool.failure_policy import MAX_LOST_ALONE, FailurePolicy, attempt_history, parse_failure_policy
from cluster.runners import trainer as trainer_module
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Assignment, Evaluator
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.clock import Clock
from tests.cluster.finish.searches import SEARCH, Interrupted, finish, recorded_tests, rows
from tests.command_line import nascluster
from tests.contracts.evaluator import EvaluatorContract, architecture, assignment

CONFIG = RunConfig(
    task=TaskOptions(task="digits"),
    budget=Budget(epochs=1, train_fraction=0.1, batch_size=32),
    topology=Topology(fuse_seeds=3),
    local=True,
)
POLICY = FailurePolicy(max_attempts=3, by_cause=parse_failure_policy(""))


@pytest.fixture
def clock() -> Clock:
    return Clock(now=0.0)


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    ledger = Ledger(Path(":memory:"), 0, 10, clock=clock)
    ledger.begin(workers=1)
    ledger.admit(0, 1, [Proposal(tokens=(0, 0, 0), architecture=architecture())] * 6, ())
    return ledger


def evaluator_of(trainer: Any, ledger: Ledger) -> InProcessEvaluator:
    return InProcessEvaluator(trainer, ledger, POLICY, batch_size=32, seeds=trainer, fuse_seeds=3)


class TestFused(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, ledger: Ledger) -> Evaluator:
        return evaluator_of(Trainer(CONFIG), ledger)


class Joining:
    """Trains children by a function, alone or as one; records which were trained together."""

    def __init__(self, train: Callable[[Sequence[int]], list[Outcome]]) -> None:
        self.groups: list[list[int]] = []
        self._train = train

    def why_alone(self, assignment: Assignment) -> str | None:
        return None

    def train_together(self, assignments: Sequence[Assignment], **_: Any) -> list[Outcome]:
        self.groups.append([one.child_id for one in assignments])
        return self._train([one.seed for one in assignments])

    def train(self, assignment: Assignment, **_: Any) -> Outcome:
        self.groups.append([assignment.child_id])
        return self._train([assignment.seed])[0]


def good(seed: int) -> Outcome:
    return Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=seed)


def test_children_with_one_network_share_the_time_of_their_training(ledger: Ledger, clock: Clock) -> None:
    def train(seeds: Sequence[int]) -> list[Outcome]:
        assert [attempt.child_id for attempt in ledger.running()] == [1, 2, 3][: len(seeds)] or len(seeds) == 2
        clock.now += 30
        return [good(seed) for seed in seeds]

    trainer = Joining(train)
    evaluator = evaluator_of(trainer, ledger)
    evaluator.submit(*(assignment(number) for number in range(1, 6)))
    assert [child for child, _ in evaluator.completed()] == [1, 2, 3]
    assert [child for child, _ in evaluator.completed()] == [4, 5]
    assert trainer.groups == [[1, 2, 3], [4, 5]]
    times = ledger._connection.execute("SELECT started_at, ended_at FROM attempts ORDER BY child").fetchall()
    assert times == [(0, 10), (10, 20), (20, 30), (30, 45), (45, 60)]
    assert ledger._connection.execute("SELECT attempt_seconds FROM totals").fetchone() == (60,)


def test_one_that_fails_is_trained_again_alone(ledger: Ledger) -> None:
    def train(seeds: Sequence[int]) -> list[Outcome]:
        crashed = [Outcome.failed(Cause.CRASHED, "why", seed=seed) if seed == 102 else good(seed) for seed in seeds]
        return crashed if len(seeds) > 1 else [good(seed) for seed in seeds]

    trainer = Joining(train)
    evaluator = evaluator_of(trainer, ledger)
    evaluator.submit(*(assignment(number) for number in (1, 2, 3)))
    assert [child for child, _ in evaluator.completed()] == [1, 3]
    assert [child for child, _ in evaluator.completed()] == [2]
    assert trainer.groups == [[1, 2, 3], [2]]


def test_those_that_lacked_memory_as_one_are_trained_alone_and_none_has_failed(ledger: Ledger) -> None:
    def train(seeds: Sequence[int]) -> list[Outcome]:
        if len(seeds) == 1:
            return [good(seeds[0])]
        too_large = [Outcome.failed(Cause.OUT_OF_MEMORY, "why", seed=seed) for seed in seeds]
        return [replace(outcome, measurements={FUSED: float(len(seeds))}) for outcome in too_large]

    trainer = Joining(train)
    evaluator = evaluator_of(trainer, ledger)
    evaluator.submit(*(assignment(number) for number in (1, 2, 3)))
    assert evaluator.completed() == []
    assert [evaluator.completed() for _ in range(3)] == [[(number, good(100 + number))] for number in (1, 2, 3)]
    assert trainer.groups == [[1, 2, 3], [1], [2], [3]]
    assert attempt_history(ledger.attempts(1)[:1]).failures == 0


def test_an_interruption_ends_the_attempts_of_all_and_a_kill_loses_them(ledger: Ledger) -> None:
    def interrupted(seeds: Sequence[int]) -> list[Outcome]:
        raise KeyboardInterrupt

    def killed(seeds: Sequence[int]) -> list[Outcome]:
        raise SystemExit

    three = [assignment(number) for number in (1, 2, 3)]
    for train, expected in ((interrupted, "retry"), *[(killed, "lost")] * (MAX_LOST_ALONE - 1)):
        evaluator = evaluator_of(trainer := Joining(train), ledger)
        evaluator.submit(*three)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            evaluator.completed()
        ledger.begin(workers=1)  # the next start of the run
        assert trainer.groups == [[1, 2, 3]]
        assert [ledger.attempts(number)[-1].verdict for number in (1, 2, 3)] == [expected] * 3
    evaluator = evaluator_of(trainer := Joining(lambda seeds: [good(seed) for seed in seeds]), ledger)
    evaluator.submit(*three)
    assert [evaluator.completed()[0][0] for _ in three] == [1, 2, 3]
    assert trainer.groups == [[1], [2], [3]]  # each alone: the next kill says whose fault it is


def test_seeds_are_trained_alone_where_that_is_faster(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer(CONFIG)
    assert trainer.why_alone(assignment(1)) is None
    large = Trainer(replace(CONFIG, budget=replace(CONFIG.budget, batch_size=128)), task=trainer.task)
    joining = Joining(lambda seeds: [good(seed) for seed in seeds])
    joining.why_alone = large.why_alone  # type: ignore[method-assign]
    evaluator = evaluator_of(joining, ledger)
    evaluator.submit(assignment(1), assignment(2), assignment(3))
    assert [evaluator.completed()[0][0] for _ in range(3)] == [1, 2, 3]
    assert joining.groups == [[1], [2], [3]]
    assert caplog.text.count("`--fuse-seeds` trains no seeds of a network as one: a CPU is slower") == 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    assert nascluster(*SEARCH, "--storage-path", place) == 0
    return place


def test_finish_trains_the_seeds_of_a_network_as_one(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the second network, it goes on; each seed reaches what it reaches alone."""
    words = ("--top", 2, "--seeds", 2, "--epochs", 1, "--batch-size", 64)
    alone, fused = tmp_path / "alone", tmp_path / "fused"
    for place in (alone, fused):
        shutil.copytree(searched, place)
    assert finish(alone, *words) == 0
    with monkeypatch.context() as patch:
        interrupted = Interrupted(trainer_module.train_together, at=(2,))
        patch.setattr(trainer_module, "train_together", interrupted)
        assert finish(fused, *words, "--fuse-seeds", 2) == 130
        assert finish(fused, *words) == 0  # the run goes on as it was begun
        assert interrupted.calls == 3
    assert RunFolder(fused / "search-final").read_config().topology.fuse_seeds == 2
    query = "SELECT json_extract(outcome, '$.measurements') FROM children ORDER BY id"
    assert [json.loads(found) for (found,) in rows(fused, "search-final", query)] == [{FUSED: 2.0}] * 4
    assert recorded_tests(fused) == pytest.approx(recorded_tests(alone), abs=0.02)
    seeds = "SELECT id, seed FROM children ORDER BY id"
    assert rows(fused, "search-final", seeds) == rows(alone, "search-final", seeds)
