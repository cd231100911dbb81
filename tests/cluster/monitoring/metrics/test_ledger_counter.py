"""Incremental counts of a ledger: every row is counted once, whenever it is read."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Cause, Outcome
from child_trainer.supernets.jobs import Score, Steps
from cluster.monitoring.metrics.ledger_counter import LedgerCounter
from cluster.monitoring.metrics.snapshot import MetricsSnapshot
from cluster.search.records import BatchResult, Verdict, fused_key
from controller.searcher import Proposal
from tests.cluster.monitoring.metrics.histories import CONFIG, SPACE, History

A, B = (1, 1, 1), (0, 1, 1)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "ledger.sqlite")


def count(counter: LedgerCounter, history: History) -> MetricsSnapshot:
    with history.read() as db:
        return counter.count(db, history.now)


def steps(history: History) -> Iterator[str]:
    """Yield the names of a history's steps, each after it has been recorded."""

    def step(name: str) -> str:
        history.now += 10
        return name

    history.ledger.begin(workers=2)
    history.sample([A, A, B])
    yield step("sampled")
    history.start(1, "1a")
    history.start(2, "2a")
    yield step("training")
    history.give(1, "1a", 0.25, gpu_bytes=3 * 2**30)
    history.fail("2a", Cause.PREEMPTED, Verdict.RETRY)
    yield step("one ended")
    history.start(2, "2b")
    history.start(3, "3a")
    yield step("again")
    history.give(2, "2b", 0.75)
    history.ledger.finish(3, history.fail("3a", Cause.DIVERGED, Verdict.OUTCOME), 0.0)
    history.learn(1, (0, 3), baseline=0.3, entropy=2.0)
    yield step("all ended")


def test_children_that_are_trained_as_one_keep_one_worker_busy(history: History) -> None:
    counter = LedgerCounter(CONFIG)
    history.ledger.begin(workers=3)
    history.sample([A, A, A])
    for place in range(3):
        history.start(1 + place, fused_key("ab", place))
    snapshot = count(counter, history)
    assert (snapshot.running, snapshot.busy) == (3, 1)
    for place in range(2):
        history.give(1 + place, fused_key("ab", place), 0.5)
    history.give(3, fused_key("ab", 2), 0.5)
    snapshot = count(counter, history)
    assert (snapshot.running, snapshot.busy) == (0, 0)


def test_every_fact_of_a_known_history(history: History) -> None:
    for _ in steps(history):
        pass
    snapshot = count(LedgerCounter(CONFIG), history)
    assert (snapshot.sampled, snapshot.running, snapshot.waiting, snapshot.finished) == (3, 0, 0, 2)
    assert {c: n for c, n in snapshot.failed.items() if n} == {"diverged": 1}
    assert set(snapshot.failed) == set(map(str, Cause))  # a cause that has not come up yet is 0, not absent
    assert snapshot.attempts == 4
    assert {v: n for v, n in snapshot.attempts_ended.items() if n} == {"outcome": 3, "retry": 1}
    assert {c: n for c, n in snapshot.attempts_failed.items() if n} == {"preempted": 1, "diverged": 1}
    assert snapshot.attempt_seconds == 40.0  # four attempts of one step each
    assert snapshot.child_seconds == 16.0
    assert (snapshot.best_reward, snapshot.recent_reward) == (0.75, pytest.approx(1 / 3))
    assert snapshot.distinct_ratio == pytest.approx(2 / 3)
    assert snapshot.depth is not None and snapshot.depth > 0
    assert snapshot.figures == {"baseline": 0.3, "entropy": 2.0}
    assert (snapshot.learned, snapshot.pushed) == (1, 1)
    assert snapshot.queue_wait.sum == 10 + 10 + 30  # child 3 waited while the workers had others
    assert snapshot.queue_wait.cumulative()[-1] == ("+Inf", 3)
    assert snapshot.epoch.sum == 2.0 + 2.0
    assert snapshot.gpu_memory.sum == 3 * 2**30  # the other one had no GPU
    assert [count for bound, count in snapshot.gpu_memory.cumulative() if float(bound) in (2**31, 2**32)] == [0, 1]
    assert dict(snapshot.staleness.cumulative())["0.0"] == 1
    assert snapshot.staleness.sum == 3
    assert (snapshot.pull.sum, snapshot.push.sum) == (0.02, 0.2)
    assert (snapshot.workers, snapshot.seconds, snapshot.heartbeat_age_s, snapshot.last_child_at) == (
        2,
        50.0,
        50.0,
        1040.0,
    )


def test_counting_at_every_step_equals_counting_once(history: History) -> None:
    counter, running = LedgerCounter(CONFIG), []
    for _ in steps(history):
        running.append(count(counter, history).running)
        assert count(counter, history) == count(LedgerCounter(CONFIG), history)
    assert running == [0, 2, 0, 2, 0]


def test_a_batch_learned_again_counts_as_another_push(history: History) -> None:
    counter = LedgerCounter(CONFIG)
    for _ in steps(history):
        count(counter, history)
    history.ledger.open_batch(0, applied=0)  # a shard fell back
    assert count(counter, history).pushed == 1
    history.learn(1, (1, 1))
    assert count(counter, history).pushed == 2


def test_a_late_result_changes_no_count(history: History) -> None:
    history.ledger.begin(workers=1)
    history.sample([A])
    history.start(1, "1a")
    counter = LedgerCounter(CONFIG)
    count(counter, history)
    history.fail("1a", Cause.CRASHED, Verdict.RETRY)
    before = count(counter, history)
    history.fail("1a", Cause.TIMEOUT, Verdict.OUTCOME)
    assert count(counter, history) == before


def test_a_resume_takes_nothing_back(history: History) -> None:
    for _ in steps(history):
        pass
    before = count(LedgerCounter(CONFIG), history)
    history.sample([A], batch=2)
    history.start(4, "4a")
    history.now += 5
    history.ledger.begin(workers=7)
    after = count(LedgerCounter(CONFIG), history)
    assert after.attempts_ended["lost"] == 1
    assert (after.running, after.waiting, after.workers) == (0, 1, 7)
    assert (after.finished, after.pushed, after.child_seconds) == (before.finished, before.pushed, before.child_seconds)
    assert after.attempt_seconds >= before.attempt_seconds


@pytest.mark.parametrize(
    ("column", "unknown"),
    [
        ("completion", {"finished": 0, "best_reward": None, "recent_reward": None}),
        ("verdict", {"attempts": 0}),
        ("pull_seconds", {"pushed": 0, "figures": {}}),
        ("architecture_id", {"recent_reward": None}),
    ],
)
def test_a_part_that_cannot_be_read_counts_nothing_and_hides_nothing_else(
    history: History, column: str, unknown: dict[str, object]
) -> None:
    for _ in steps(history):
        pass
    counter = LedgerCounter(CONFIG)
    with history.read() as db:
        db.set_authorizer(lambda _, __, name, *more: sqlite3.SQLITE_DENY if name == column else sqlite3.SQLITE_OK)
        found = counter.count(db, history.now)
    whole = count(LedgerCounter(CONFIG), history)
    assert not found.readable
    assert {name: getattr(found, name) for name in unknown} == unknown
    others = {"sampled", "finished", "attempts", "pushed", "best_reward"} - unknown.keys()
    assert {name: getattr(found, name) for name in others} == {name: getattr(whole, name) for name in others}
    assert count(counter, history) == whole


def test_jobs_on_shared_weights_are_counted_apart(history: History) -> None:
    history.ledger.begin(workers=1)
    path = Proposal(tokens=A, architecture=SPACE.decode(A), job=Score())
    steps = Proposal(tokens=(), architecture=None, job=Steps(objective="dropout", count=5))
    assert history.ledger.admit(0, 1, [steps, steps, path, steps], ()) is not None
    counter, made = LedgerCounter(CONFIG), Outcome(curve=(), seconds=4.0, parameters=None, flops=None, seed=1)
    assert count(counter, history).supernet is None
    traffic = {"pulls": 5, "pushes": 5, "pulled_bytes": 400, "pushed_bytes": 200, "wait_seconds": 0.5}
    history.ledger.finish(
        1, replace(made, measurements={"loss": 3.0, "accuracy": 0.25, "staleness": 3.0} | traffic), None
    )
    history.ledger.finish(
        2, replace(made, measurements={"loss": 1.0, "accuracy": 0.75, "staleness": 0.0} | traffic), None
    )
    history.ledger.finish(
        3, replace(made, curve=(0.5,), measurements={"loss": 9.0, "pulls": 1, "pulled_bytes": 30}), 0.5
    )
    history.ledger.finish(4, Outcome.failed(Cause.DIVERGED, "why", seed=1), None)
    snapshot = count(counter, history)
    found = snapshot.supernet
    assert found is not None
    assert (found.steps, found.loss, found.accuracy, found.path_metric) == (10, 2.0, 0.5, 0.5)
    assert found.traffic == {
        "pulls": 11, "pushes": 10, "pulled_bytes": 830, "pushed_bytes": 400, "wait_seconds": 1.0
    }  # fmt: skip
    assert (found.staleness.sum, found.staleness.cumulative()[-1]) == (3.0, ("+Inf", 2))
    assert snapshot.epoch.cumulative()[-1] == ("+Inf", 0)  # a score is no epoch of training
    history.learn(1, (), entropy=1.0)
    history.ledger.admit(0, 2, [steps], ())
    history.ledger.learned(0, 2, BatchResult(staleness=None, figures={}))
    after = count(counter, history)
    assert (after.figures, after.staleness.sum) == ({"entropy": 1.0}, 0)


def test_a_new_ledger_has_no_counts(history: History) -> None:
    snapshot = count(LedgerCounter(CONFIG), history)
    assert snapshot == replace(
        snapshot, sampled=0, finished=0, started_at=None, heartbeat_age_s=None, best_reward=None, depth=None
    )


def test_a_later_count_reads_only_new_rows(history: History) -> None:
    for _ in steps(history):
        pass
    counter = LedgerCounter(CONFIG)
    count(counter, history)
    with history.read() as db:
        plans = []
        db.set_trace_callback(plans.append)
        counter.count(db, history.now)
        db.set_trace_callback(None)
        for query in plans:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
            scans = [line for line in plan if line.startswith("SCAN") and "run" not in line.split()]
            assert all("INDEX" in line or "(subquery" in line or "CONSTANT" in line for line in scans), (query, plan)
