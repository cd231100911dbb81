import itertools
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from child_trainer.outcome import Cause, Failure, Outcome
from child_trainer.supernets.jobs import Score, Steps
from cluster.search.records import BatchResult, Ended, EndedAttempt, LedgerCall, Verdict
from cluster.search.seeding import child_seed
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Lane, Proposal
from controller.spaces.convolutional import ConvolutionalSpace

SPACE = ConvolutionalSpace(initial_depth=1)


def proposals(n: int) -> list[Proposal]:
    tokens = [(i % 4, 0, 0) for i in range(n)]
    return [Proposal(tokens=t, architecture=SPACE.decode(t), log_prob=-1.5) for t in tokens]


def outcome(metric: float = 0.5, cause: Cause | None = None) -> Outcome:
    failure = Failure(cause=cause, message="why") if cause else None
    return Outcome(curve=(metric,), seconds=2.0, parameters=10, flops=20, seed=1, failure=failure)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    clock = itertools.count(1000)
    ledger = Ledger(path, seed=3, max_children=10, clock=lambda: float(next(clock)))
    yield ledger
    ledger.close()


def test_a_batch_is_durable(ledger: Ledger, path: Path) -> None:
    batch = ledger.admit(0, 1, proposals(4), versions=(5, 6))
    assert batch is not None
    assert [child.id for child in batch.children] == [1, 2, 3, 4]
    assert [child.proposal for child in batch.children] == proposals(4)
    reader = Ledger(path, seed=3, max_children=10)
    assert reader.open_batch(0) == batch
    assert (batch.replica, batch.number, batch.versions) == (0, 1, (5, 6))
    assert reader.open_batch(1) is None
    reader.close()


def test_a_turn_does_not_look_at_the_batches_that_were_learnt_from(ledger: Ledger) -> None:
    asked: list[str] = []
    ledger._connection.set_trace_callback(asked.append)
    ledger.turn(0)
    ledger._connection.set_trace_callback(None)
    (query,) = (text for text in asked if "FROM batches" in text and "learned_at" in text)
    plan = ledger._connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert [step[-1] for step in plan] == ["SEARCH batches USING INDEX batches_open (replica=?)"]


def test_calls_that_share_a_message_are_made_in_order_and_durable_together(ledger: Ledger, path: Path) -> None:
    ledger.admit(0, 1, proposals(2), ())
    with closing(sqlite3.connect(path)) as reader:
        seen: list[int] = []
        ledger.look = lambda: seen.append(reader.execute("SELECT count(*) FROM attempts").fetchone()[0])  # type: ignore[attr-defined]
        answers = ledger.make_all(
            [
                LedgerCall("start", (1, "w", "a"), {"slot": 3}),
                LedgerCall("look"),
                LedgerCall("end_attempt", ("a", outcome(), Verdict.OUTCOME)),
                LedgerCall("finish_all", ([Ended(1, outcome(), 0.5)],)),
                LedgerCall("completed"),
            ]
        )
        ledger.look()  # type: ignore[attr-defined]
    assert answers is not None
    assert (answers[0], answers[2], answers[4]) == (None, True, 1)
    assert [record.reward for record in answers[3]] == [0.5]
    assert seen == [0, 1], "another reader must see all of it or nothing"


def test_a_call_that_fails_takes_those_with_it_that_share_its_message(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(2), ())
    start = LedgerCall("start", (1, "w", "a"))
    assert ledger.make_all([start, LedgerCall("finish", (7, outcome(), 0.5))]) is None  # there is no child 7
    assert ledger.attempts(1) == ()
    assert ledger.make_all([start]) == [None]
    assert [attempt.key for attempt in ledger.attempts(1)] == ["a"]


def test_children_that_end_together_are_recorded_as_one_by_one(tmp_path: Path) -> None:
    ended = [Ended(2, outcome(0.25), 0.5), Ended(1, outcome(cause=Cause.DIVERGED), None), Ended(2, outcome(0.75), 1.0)]
    found = []
    for name in ("together", "single"):
        with closing(Ledger(tmp_path / name, seed=3, max_children=10, clock=lambda: 5.0)) as ledger:
            ledger.admit(0, 1, proposals(2), ())
            records = ledger.finish_all(ended) if name == "together" else tuple(ledger.finish(*one) for one in ended)
            found.append((records, ledger.history()))
    assert found[0] == found[1]
    assert [record.id for record in found[0][1]] == [2, 1]


def test_the_limit_cuts_the_last_batch_and_refuses_the_next(ledger: Ledger) -> None:
    assert len(ledger.admit(0, 1, proposals(8), ()).children) == 8  # type: ignore[union-attr]
    assert [child.id for child in ledger.admit(1, 1, proposals(8), ()).children] == [9, 10]  # type: ignore[union-attr]
    assert ledger.admit(2, 1, proposals(8), ()) is None
    assert ledger.last_batch(2) == 0


def test_admitting_a_batch_again_gives_the_one_that_is_there(ledger: Ledger) -> None:
    first = ledger.admit(0, 1, proposals(4), (1,))
    assert ledger.admit(0, 1, proposals(2), (2,)) == first
    assert len(ledger.pending()) == 4


def test_the_first_outcome_wins(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(2), ())
    assert ledger.finish(1, outcome(0.5), 0.125).reward == 0.125
    again = ledger.finish(1, outcome(0.9), 0.729)
    assert (again.reward, again.outcome) == (0.125, outcome(0.5))
    assert ledger.completed() == 1


def test_history_is_in_completion_order_and_failures_count(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(3), ())
    ledger.finish(3, outcome(0.5), 0.1)
    ledger.finish(1, outcome(cause=Cause.DIVERGED), 0.0)
    assert [(child.id, child.reward) for child in ledger.history()] == [(3, 0.1), (1, 0.0)]
    assert [child.id for child in ledger.pending()] == [2]
    assert ledger.completed() == 2


def test_a_batch_stays_open_until_it_is_learned(ledger: Ledger, path: Path) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.finish(1, outcome(), 0.1)
    open_batch = ledger.open_batch(0)
    assert open_batch is not None
    assert open_batch.children[0].reward == 0.1
    ledger.learned(0, 1, BatchResult(staleness=(0, 2), figures={"baseline": 0.3}, pull_seconds=0.25, push_seconds=0.5))
    assert ledger.open_batch(0) is None
    assert ledger.last_batch(0) == 1
    db = sqlite3.connect(path)
    assert db.execute("SELECT pull_seconds, push_seconds FROM batches").fetchall() == [(0.25, 0.5)]
    db.close()


def test_attempts_and_outcomes_are_recorded_for_people(ledger: Ledger, path: Path) -> None:
    ledger.admit(0, 1, proposals(2), ())
    ledger.start(1, "worker-0", "a")
    ledger.start(1, "worker-0", "a")  # delivered twice
    ledger.finish(1, outcome(cause=Cause.OUT_OF_MEMORY), 0.0)
    db = sqlite3.connect(path)
    assert db.execute("SELECT child, number, worker, ended_at IS NULL FROM attempts").fetchall() == [
        (1, 1, "worker-0", 0)
    ]
    row = db.execute("SELECT state, cause, seconds, parameters, flops, seed FROM children WHERE id = 1").fetchone()
    assert row == ("failed", "out_of_memory", 2.0, 10, 20, child_seed(3, 1))
    db.close()


def test_a_late_start_does_not_take_back_an_outcome(ledger: Ledger, path: Path) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.finish(1, outcome(), 0.1)
    ledger.start(1, "worker-0")
    assert ledger.completed() == 1
    assert ledger.pending() == ()


def test_a_retry_is_another_attempt(ledger: Ledger, path: Path) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.start(1, "worker-0", "a")
    ledger.start(1, "worker-1", "b")
    db = sqlite3.connect(path)
    attempts = db.execute("SELECT number, worker, ended_at IS NULL FROM attempts").fetchall()
    assert attempts == [(1, "worker-0", 0), (2, "worker-1", 1)]
    db.close()


def test_the_versions_of_each_start_are_kept_once_in_order(ledger: Ledger, path: Path) -> None:
    for version in ("2.13", "2.13", "2.14", "2.13"):
        ledger.begin(workers=1, versions={"torch": version})
    ledger.begin(workers=1)  # by somebody who does not say
    with closing(sqlite3.connect(path)) as db:
        (found,) = db.execute("SELECT value FROM run WHERE key = 'versions'").fetchone()
    assert json.loads(found) == [{"torch": "2.13"}, {"torch": "2.14"}]


def test_a_new_start_forgets_who_was_running(ledger: Ledger, path: Path) -> None:
    ledger.begin(workers=2)
    ledger.admit(0, 1, proposals(2), ())
    ledger.start(1, "worker-0")
    again = Ledger(path, seed=3, max_children=10)
    again.begin(workers=2)
    db = sqlite3.connect(path)
    assert db.execute("SELECT DISTINCT state FROM children").fetchall() == [("sampled",)]
    again.start(1, "worker-1")
    assert db.execute("SELECT number, worker FROM attempts").fetchall() == [(1, "worker-0"), (2, "worker-1")]
    db.close()
    again.close()


def test_first_report_on_an_attempt_wins_and_a_late_result_is_only_kept(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.start(1, "here", "a", slot=3, batch_size=16)
    assert [(a.key, a.slot, a.batch_size, a.verdict) for a in ledger.running()] == [("a", 3, 16, None)]
    silent = outcome(cause=Cause.CRASHED)
    assert ledger.end_attempt("a", silent, Verdict.RETRY)
    assert ledger.end_attempt("a", silent, Verdict.RETRY)  # delivered twice
    assert ledger.running() == ()
    assert not ledger.end_attempt("a", outcome(0.9), Verdict.OUTCOME)
    ledger.start(1, "there", "b")
    assert ledger.end_attempt("b", outcome(0.5), Verdict.OUTCOME)
    assert not ledger.end_attempt("b", outcome(0.7), Verdict.OUTCOME)
    assert not ledger.end_attempt("never begun", outcome(0.7), Verdict.OUTCOME)
    assert [(a.key, a.verdict, a.cause, a.outcome) for a in ledger.attempts(1)] == [
        ("a", Verdict.LATE, Cause.CRASHED, outcome(0.9)),
        ("b", Verdict.OUTCOME, None, outcome(0.5)),
    ]
    assert ledger.completed() == 0  # only the replica records the child's outcome
    assert ledger.finish(1, outcome(0.5), 0.1).outcome == outcome(0.5)


def tables(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    names = ("children", "attempts", "batches", "totals")
    return {name: ledger._connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names}


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize(
    ("cause", "verdicts"),
    [(None, [Verdict.OUTCOME]), (Cause.CRASHED, [Verdict.RETRY, Verdict.OUTCOME]), (None, [Verdict.NOT_STARTED])],
)
def test_an_attempt_that_is_recorded_at_its_end_leaves_the_rows_of_one_that_was_begun_before(
    cause: Cause | None, verdicts: list[Verdict], joined: bool
) -> None:
    found: list[dict[str, list[tuple[object, ...]]]] = []
    for at_once in (True, False):
        ledger = Ledger(Path(":memory:"), seed=3, max_children=10, clock=lambda: 7.0)
        ledger.begin(workers=1)
        ledger.admit(0, 1, proposals(1), ())
        with ledger.together() if joined else nullcontext():
            for number, verdict in enumerate(verdicts, start=1):
                ended = None if verdict == Verdict.NOT_STARTED else outcome(0.5, cause)
                attempt = EndedAttempt(1, number, "here", 16, ledger.now(), ended, verdict)
                for _ in range(2):  # a call that is made twice changes nothing
                    if at_once:
                        ledger.record_attempt(attempt)
                    else:
                        ledger.start(1, "here", f"1-{number}", batch_size=16)
                        ledger.end_attempt(f"1-{number}", ended, verdict)
            if verdicts[-1] == Verdict.OUTCOME:
                record = ledger.finish(1, outcome(0.5, cause), 0.25)
                assert (record, record.outcome) == (ledger.history()[0], outcome(0.5, cause))
        found.append(tables(ledger))
        found[-1]["seen"] = [(attempt,) for attempt in ledger.attempts(1)]
        ledger.close()
    assert found[0] == found[1]


def test_an_attempt_is_not_recorded_once_its_child_has_ended(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.finish(1, outcome(), 0.5)
    ledger.record_attempt(EndedAttempt(1, 1, "here", None, 5.0, outcome(0.9), Verdict.OUTCOME))
    assert ledger.attempts(1) == ()
    assert ledger.finish(1, outcome(0.9), 0.9).outcome == outcome()


def test_a_child_to_be_trained_again_is_sampled_meanwhile(ledger: Ledger, path: Path) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.start(1, "here", "a")
    ledger.end_attempt("a", outcome(cause=Cause.PREEMPTED), Verdict.RETRY)
    db = sqlite3.connect(path)
    assert db.execute("SELECT state FROM children").fetchall() == [("sampled",)]
    assert db.execute("SELECT cause, message, ended_at IS NULL FROM attempts").fetchall() == [("preempted", "why", 0)]
    assert not ledger.end_attempt("a", outcome(cause=Cause.PREEMPTED), Verdict.LATE)  # the worker says it again
    assert ledger.attempts(1)[0].verdict == Verdict.RETRY
    ledger.start(1, "there", "b", batch_size=8)
    ledger.end_attempt("b", outcome(), Verdict.OUTCOME)
    assert db.execute("SELECT state FROM children").fetchall() == [("running",)]
    ledger.finish(1, outcome(), 0.1)
    assert db.execute("SELECT state, batch_size FROM children").fetchall() == [("finished", 8)]
    db.close()


def test_whole_numbers_of_a_record_are_floats_at_once(ledger: Ledger) -> None:
    ledger.admit(0, 1, [replace(one, log_prob=-1) for one in proposals(1)], ())
    whole = Outcome(curve=(1,), seconds=2, parameters=3, flops=4, seed=5)
    for record in (ledger.finish(1, whole, 0), *ledger.history()):
        assert record.outcome
        values = (record.reward, record.outcome.metric, record.outcome.seconds, record.log_prob)
        assert [type(value) for value in values] == [float] * 4


@pytest.mark.parametrize("first", ["the replica", "the pool"])
def test_a_row_is_the_same_whoever_records_the_end_first(ledger: Ledger, path: Path, first: str) -> None:
    ledger.admit(0, 1, proposals(1), ())
    ledger.start(1, "there", "ab", batch_size=8)
    if first == "the pool":
        assert ledger.end_attempt("ab", outcome(0.5), Verdict.OUTCOME)
    ledger.finish(1, outcome(0.5), 0.1)
    assert ledger.end_attempt("ab", outcome(0.5), Verdict.OUTCOME)
    assert not ledger.end_attempt("ab", outcome(0.25), Verdict.OUTCOME)
    db = sqlite3.connect(path)
    assert db.execute("SELECT state, batch_size, reward, metric, completion FROM children").fetchall() == [
        ("finished", 8, 0.1, 0.5, 1)
    ]
    assert db.execute("SELECT verdict, cause, message, outcome, ended_at IS NULL FROM attempts").fetchall() == [
        ("outcome", None, None, None, 0)
    ]
    db.close()


def test_a_dropped_child_has_ended_and_is_not_learnt_from(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(2), ())
    assert ledger.finish(1, outcome(cause=Cause.DIVERGED), None).reward is None
    ledger.finish(2, outcome(), 0.1)
    assert ledger.completed() == 2
    assert [(child.id, child.reward) for child in ledger.history()] == [(1, None), (2, 0.1)]
    assert ledger.pending() == ()


def test_batches_whose_push_a_shard_has_lost_are_learnt_again_in_order(ledger: Ledger) -> None:
    for number, pushed in ((1, (0,)), (2, None), (3, (0,)), (4, (0,))):
        ledger.admit(0, number, proposals(1), ())
        ledger.learned(0, number, BatchResult(staleness=pushed, figures={}))
    ledger.admit(1, 1, proposals(1), ())
    ledger.learned(1, 1, BatchResult(staleness=(0,), figures={}))
    assert ledger.open_batch(0, applied=4) is None
    numbers = []
    applied = 1
    while batch := ledger.open_batch(0, applied=applied):
        numbers.append(batch.number)
        applied = batch.number
        ledger.learned(0, batch.number, BatchResult(staleness=(0,), figures={}))
    assert numbers == [3, 4]  # nothing was pushed of 2
    assert ledger.open_batch(1, applied=1) is None


def test_addresses_of_shards_that_moved(ledger: Ledger) -> None:
    ledger.begin(workers=1)
    ledger.serve([0, 1], "a:1")
    ledger.serve([2], "b:1")
    ledger.serve([0, 1], "c:2")
    assert ledger.addresses() == ("c:2", "c:2", "b:1")
    ledger.begin(workers=1)
    assert ledger.addresses() == ()


def test_two_stores_have_addresses_of_their_own(ledger: Ledger) -> None:
    ledger.serve([0], "a:1")
    ledger.serve([0, 1], "b:1", "weights")
    assert ledger.addresses() == ("a:1",)
    assert ledger.addresses("weights") == ("b:1", "b:1")


STEPS = Proposal(tokens=(), architecture=None, job=Steps(objective="path", count=2, settings={"rate": 0.5}))


def test_a_job_is_read_back_and_has_the_lowest_free_lane(ledger: Ledger, path: Path) -> None:
    score = replace(proposals(1)[0], job=Score())
    paths = replace(STEPS, job=Steps(objective="path", count=2, paths=((1, 2), (3,))))
    stream = ledger.add_children(0, 1, 0, [STEPS, proposals(1)[0], score, paths], ())
    assert [child.proposal for child in stream.outstanding] == [STEPS, proposals(1)[0], score, paths]
    assert [child.lane for child in stream.outstanding] == [Lane(0, 0, 0), None, None, Lane(0, 1, 0)]
    ledger.finish(1, outcome(), None)
    stream = ledger.add_children(0, 1, 4, [STEPS, STEPS], ())
    assert [child.lane for child in stream.outstanding] == [None, None, Lane(0, 1, 0), Lane(0, 0, 2), Lane(0, 2, 0)]
    batch = ledger.admit(1, 1, [STEPS], ())
    assert batch is not None
    assert [child.lane for child in batch.children] == [Lane(1, 0, 0)]
    reader = Ledger(path, seed=3, max_children=10)
    assert [record.job for record in reader.pending()] == [None, score.job, paths.job, *[STEPS.job] * 3]
    assert [record.architecture_id for record in reader.history()] == [""]
    assert reader.open_batch(1) == batch
    reader.close()


def test_only_steps_can_do_without_an_architecture() -> None:
    for job in (None, Score()):
        with pytest.raises(ValueError, match="must have the job to make steps"):
            Proposal(tokens=(), architecture=None, job=job)


def test_a_failed_write_changes_nothing(ledger: Ledger) -> None:
    ledger.admit(0, 1, proposals(1), ())
    bad = Proposal(tokens=(0, 0, 0), architecture=SPACE.decode((0, 0, 0)), log_prob=object())  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        ledger.admit(1, 1, [*proposals(1), bad], ())
    assert [child.id for child in ledger.pending()] == [1]
    assert ledger.last_batch(1) == 0


class LedgerMachine(RuleBasedStateMachine):
    """Any order of calls, repeated or not, against a model of plain dictionaries."""

    children = Bundle("children")

    @initialize()
    def start(self) -> None:
        self.ledger = Ledger(Path(":memory:"), seed=0, max_children=12, clock=lambda: 0.0)
        self.batches: dict[int, tuple[int, list[int]]] = {}
        self.numbers = dict.fromkeys(range(3), 0)
        self.rewards: dict[int, float] = {}
        self.sampled = 0
        self.attempts: dict[str, tuple[int, str | None]] = {}  # key -> child, verdict
        self.results: defaultdict[str, Outcome | None] = defaultdict(lambda: None)

    @rule(target=children, replica=st.integers(0, 2), n=st.integers(1, 4))
    def admit(self, replica: int, n: int):  # type: ignore[no-untyped-def]
        if replica in self.batches:
            return multiple()
        number = self.numbers[replica] + 1
        batch = self.ledger.admit(replica, number, proposals(n), (1,))
        expected = list(range(self.sampled + 1, min(12, self.sampled + n) + 1))
        assert [child.id for child in batch.children] == expected if batch else not expected
        if batch:
            self.numbers[replica], self.sampled = number, self.sampled + len(expected)
            self.batches[replica] = number, expected
        return multiple(*expected)

    @rule(child=children, reward=st.floats(0, 1), repeat=st.booleans())
    def finish(self, child: int, reward: float, repeat: bool) -> None:
        self.rewards.setdefault(child, reward)
        for _ in range(1 + repeat):
            assert self.ledger.finish(child, outcome(), reward).reward == self.rewards[child]
        for key, (of, verdict) in self.attempts.items():
            if of == child and verdict is None:
                self.attempts[key] = child, "outcome"

    @rule(child=children, repeat=st.booleans())
    def start_attempt(self, child: int, repeat: bool) -> None:
        key = f"k{len(self.attempts)}"
        for _ in range(1 + repeat):
            self.ledger.start(child, "somewhere", key)
        if child not in self.rewards:
            for other, (of, verdict) in self.attempts.items():
                if of == child and verdict is None:
                    self.attempts[other] = child, "lost"
            self.attempts[key] = child, None

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), verdict=st.sampled_from([Verdict.OUTCOME, Verdict.RETRY]), repeat=st.booleans())
    def end_attempt(self, data: st.DataObject, verdict: Verdict, repeat: bool) -> None:
        key = data.draw(st.sampled_from(list(self.attempts)))
        child, known = self.attempts[key]
        result = outcome(0.25 + len(key) / 100, None if verdict == Verdict.OUTCOME else Cause.CRASHED)
        first = self.ledger.end_attempt(key, result, verdict)
        if known is None:
            assert first
            self.attempts[key] = child, verdict
            self.results[key] = result
        elif not first and known != "outcome" and self.results[key] != result:
            self.attempts[key] = child, "late"
            self.results[key] = result
        if repeat and first:
            assert self.ledger.end_attempt(key, result, verdict)

    @rule()
    def start_the_run_again(self) -> None:
        self.ledger.begin(workers=1)
        for key, (child, verdict) in self.attempts.items():
            self.attempts[key] = child, verdict or "lost"

    @rule(replica=st.integers(0, 2))
    def learn(self, replica: int) -> None:
        number, ids = self.batches.get(replica, (0, []))
        if ids and all(i in self.rewards for i in ids):
            self.ledger.learned(replica, number, BatchResult(staleness=(0,), figures={}))
            del self.batches[replica]

    @invariant()
    def agrees(self) -> None:
        assert [child.id for child in self.ledger.history()] == list(self.rewards)
        assert {child.id for child in self.ledger.pending()} == set(range(1, self.sampled + 1)) - self.rewards.keys()
        found = {a.key: (a.child_id, a.verdict) for child in range(1, 13) for a in self.ledger.attempts(child)}
        assert found == self.attempts
        assert {a.key for a in self.ledger.running()} == {k for k, (_, verdict) in self.attempts.items() if not verdict}
        assert list(self.ledger.open_children()) == [child.id for child in self.ledger.pending()]
        for replica in range(3):
            batch = self.ledger.open_batch(replica)
            known = self.batches.get(replica)
            assert (batch and (batch.number, [child.id for child in batch.children])) == known
            assert self.ledger.last_batch(replica) == self.numbers[replica]

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=40, stateful_step_count=25)


def test_an_end_before_the_run_was_begun_again_takes_no_time(tmp_path: Path) -> None:
    now = iter((100.0, 110.0, 501.0, 600.0, 605.0))
    with closing(Ledger(tmp_path / "ledger.sqlite", seed=3, max_children=10, clock=lambda: next(now))) as ledger:
        ledger.begin(workers=1)  # at 100
        ledger.end("stopped", since=99.0)  # at 110
        ledger.end("stopped", "interrupted", since=500.0)  # a start that was interrupted before it began the run
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
            values = dict(db.execute("SELECT key, value FROM run").fetchall())
            assert (values["started_at"], values["beat_at"], values["message"]) == (100.0, 110.0, "interrupted")
        ledger.begin(workers=1)
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
            assert dict(db.execute("SELECT key, value FROM run").fetchall())["seconds_before"] == 10.0
