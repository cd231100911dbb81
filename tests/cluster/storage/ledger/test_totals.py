"""Totals follow from the record at any moment, and rows that say nothing twice say all."""

import math
import pickle
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Cause, Measure, Outcome, Stopped
from cluster.search.history import History
from cluster.search.records import BatchResult, Verdict
from cluster.storage.ledger import schema, totals
from cluster.storage.ledger.compact import child_text, key_of, outcome_of, stored_key
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.run import knows_changes
from controller.searcher import ChildRecord, Proposal

GOOD = Outcome(curve=(0.5,), seconds=2.0, parameters=10, flops=20, seed=3)

OUTCOMES = {
    "usual": GOOD,
    "of two epochs": replace(GOOD, curve=(0.25, 0.5)),
    "failed": Outcome.failed(Cause.CRASHED, "why", seed=3),
    "of another seed": replace(GOOD, seed=4),
    "with all": replace(
        GOOD,
        measure=Measure.PERPLEXITY,
        solved=True,
        processor="x86_64",
        gpu_bytes=7,
        measurements={"latency_ms": 1.5},
        weights="abc",
        stopped=Stopped(epoch=1, reason="slow"),
    ),
    "without costs": replace(GOOD, parameters=None, flops=None),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_an_outcome_comes_back_from_its_row(outcome: Outcome) -> None:
    columns = (3, outcome.seconds, outcome.parameters, outcome.flops, outcome.metric)
    assert outcome_of(child_text(outcome, 3), *columns) == outcome


def test_what_a_column_cannot_hold_stays_in_the_text() -> None:
    text = child_text(replace(GOOD, curve=(math.nan,)), 3)
    read = outcome_of(text, 3, 2.0, 10, 20, None)
    assert read is not None
    assert math.isnan(read.curve[0])


@pytest.mark.parametrize("key", ["7-2", "0123456789abcdef", "a key", "7-3", "abc"])
def test_the_key_of_an_attempt_comes_back_from_its_row(key: str) -> None:
    assert key_of(7, 2, stored_key(7, 2, key)) == key


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite", 0, 1_000, clock=iter(range(10**6)).__next__)) as ledger:
        ledger.begin(workers=1)
        yield ledger


def proposal() -> Proposal:
    architecture = Architecture("feedforward", (node("out", "conv", "image", height=1, width=1, filters=2),), ("out",))
    return Proposal(tokens=(1, 2), architecture=architecture)


def rows(ledger: Ledger) -> tuple[object, ...]:
    """The totals, and the staleness by how many pushes."""
    db = ledger._connection
    return totals.totals(db), totals.staleness(db)


def counted(ledger: Ledger) -> tuple[object, ...]:
    """The same, counted."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        ledger._connection.backup(copy)
        copy.execute("DELETE FROM totals")
        return totals.totals(copy), totals.staleness(copy)


def test_totals_are_those_of_the_record_after_each_call(ledger: Ledger) -> None:
    rng, outcomes = random.Random(1), list(OUTCOMES.values())
    for number in range(1, 31):
        batch = ledger.admit(0, number, [proposal()] * 3, (number, number))
        assert batch is not None
        for child in batch.children:
            for attempt in range(1, rng.randrange(2, 4)):
                ledger.start(child.id, "w", f"{child.id}-{attempt}")
                verdict = rng.choice(list(Verdict))
                ledger.end_attempt(f"{child.id}-{attempt}", GOOD if verdict == Verdict.OUTCOME else None, verdict)
            ledger.finish(child.id, rng.choice(outcomes), rng.choice([None, 0.25, 0.5, rng.randrange(8) / 8]))
            assert rows(ledger) == counted(ledger)
        stale = rng.choice([None, (), (rng.randrange(3), rng.randrange(3))])
        ledger.learned(0, number, BatchResult(staleness=stale, figures=rng.choice([{}, {"entropy": 0.5}])))
        assert rows(ledger) == counted(ledger)
    ledger.open_batch(0, applied=27)  # a shard has lost the last pushes: their batches are learnt again
    while batch := ledger.open_batch(0):
        ledger.learned(0, batch.number, BatchResult(staleness=(9, 1), figures={"entropy": 0.25}))
        assert rows(ledger) == counted(ledger)


def test_a_change_that_no_search_makes_is_counted_again(ledger: Ledger) -> None:
    ledger.admit(0, 1, [proposal()] * 2, ())
    for child in (1, 2):
        ledger.finish(child, GOOD, child / 4)
    db = ledger._connection
    db.execute("UPDATE children SET reward = 0 WHERE id = 2")
    assert totals.totals(db).best == 1
    assert db.execute("SELECT count(*) FROM totals").fetchone() == (0,)
    ledger.begin(workers=1)
    assert db.execute("SELECT best, rewarded, reward FROM totals").fetchone() == (1, 2, 0.25)


def test_old_changes_are_forgotten_and_a_reader_that_lacks_them_knows(ledger: Ledger) -> None:
    db, kept = ledger._connection, schema.KEPT_CHANGES
    db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'changes'", (kept + schema.FORGOTTEN_TOGETHER - 2,))
    for _ in range(3):
        ledger.beat()
    assert db.execute("SELECT min(revision) FROM changes").fetchone()[0] > kept
    assert knows_changes(db, kept)
    assert not knows_changes(db, 5)


def test_a_history_is_as_immutable_as_a_copy_and_its_outcomes_are_read_late(ledger: Ledger) -> None:
    ledger.admit(0, 1, [proposal()] * 4, ())
    history = History(ledger)
    recorded = [ledger.finish(child, GOOD, 0.5) for child in (2, 1)]
    first = history()
    recorded += [ledger.finish(child, GOOD, 0.5) for child in (4, 3)]
    assert list(first) == recorded[:2] == list(first[:])
    assert (len(first), first[-1].id, [child.id for child in first[1:]]) == (2, 1, [1])
    with pytest.raises(IndexError):
        first[2]
    assert history() == tuple(recorded)
    (child,) = ledger.history(after=4)
    assert pickle.loads(pickle.dumps(child)) == child
    assert child == ChildRecord(
        id=3, tokens=(1, 2), architecture_id=proposal().architecture_id, reward=0.5, outcome=GOOD
    )
