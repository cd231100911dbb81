"""What the displays read of shared weights, next to plain sums over all children."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import mean

import pytest

from child_trainer.outcome import Cause, Outcome
from child_trainer.supernets.jobs import Score, Steps
from cluster.search.records import BatchResult
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.supernet import RECENT_S, SupernetTraining, supernet_training
from controller.searcher import Child, Proposal
from controller.spaces.convolutional import ConvolutionalSpace

NETWORK = ConvolutionalSpace(initial_depth=1).decode((0, 0, 0))
LAST = 4
"""Children over which the means are."""


def steps(number: int) -> Proposal:
    paths = tuple((step, number) for step in range(number))
    return Proposal(tokens=(), architecture=None, job=Steps(objective="path", count=number, paths=paths))


def score() -> Proposal:
    return Proposal(tokens=(0, 0, 0), architecture=NETWORK, job=Score(settings={"batches": 1}))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Two replicas with two lanes each, whose children take 9 s; some failed, and the last two have not ended."""
    clock = count(1e9, 9.0)
    with closing(Ledger(tmp_path / "ledger.sqlite", 0, 100, clock=lambda: next(clock))) as ledger:
        for batch in range(1, 7):
            for replica in (0, 1):
                proposals = [steps(batch), steps(2 * batch), score()]
                admitted = ledger.admit(replica, batch, proposals, (1,))
                assert admitted
                for child in admitted.children if (replica, batch) != (1, 6) else admitted.children[2:]:
                    ledger.finish(child.id, outcome(child), None)
                if (replica, batch) != (1, 6):
                    ledger.learned(replica, batch, BatchResult(staleness=(0,), figures={}))
    yield tmp_path / "ledger.sqlite"


def outcome(child: Child) -> Outcome:
    if child.id % 7 == 0:
        return Outcome.failed(Cause.CRASHED, "a test", seed=0)
    measured = {
        "loss": 1.0 / child.id,
        "staleness": float(child.id % 3),
        "pulled_bytes": 100.0 * child.id,
        "pulls": 2.0,
    }
    curve = () if isinstance(child.proposal.job, Steps) else (0.01 * child.id,)
    return Outcome(curve=curve, seconds=9.0, parameters=1, flops=1, seed=0, measurements=measured)


def by_hand(ledger: Ledger, db: sqlite3.Connection) -> SupernetTraining:
    ended = ledger.history()
    trained = [child for child in ended if isinstance(child.job, Steps) and child.outcome and not child.outcome.failure]
    scored = [child for child in ended if isinstance(child.job, Score) and child.outcome and child.outcome.curve]
    times = dict(db.execute("SELECT id, ended_at FROM children"))
    (began,) = db.execute("SELECT min(sampled_at) FROM children").fetchone()
    at = max(times[child.id] for child in ended)
    recent = [child.outcome for child in ended if times[child.id] > at - RECENT_S]
    seconds = min(RECENT_S, at - began)

    def measured(name: str) -> float:
        return mean(child.outcome.measurements[name] for child in trained[-LAST:] if child.outcome)

    def total(name: str) -> float:
        return sum(outcome.measurements.get(name, 0.0) for outcome in recent if outcome)

    return SupernetTraining(
        steps=sum(child.job.count for child in trained if isinstance(child.job, Steps)),
        loss=measured("loss"),
        accuracy=None,
        staleness=measured("staleness"),
        path_metric=mean(child.outcome.curve[-1] for child in scored[-LAST:] if child.outcome),
        bytes_per_s=total("pulled_bytes") / seconds,
        calls_per_s=total("pulls") / seconds,
    )


def test_the_training_is_the_sum_of_its_children_of_which_few_are_looked_at(path: Path) -> None:
    with closing(Ledger(path, 0, 100)) as ledger, closing(sqlite3.connect(path)) as db:
        expected = by_hand(ledger, db)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        found = supernet_training(db, LAST)
        assert found is not None
        assert found == pytest.approx(expected)
        # The paths of thousands of children are not read at each look: nothing is said of texts that are not JSON.
        ended = "UPDATE children SET job = 'torn' WHERE lane IS NOT NULL AND state = 'finished' AND id < 25"
        assert db.execute(ended).rowcount > 10
        assert supernet_training(db, LAST) == found
        db.execute("UPDATE children SET job = 'torn'")
        with pytest.raises(sqlite3.OperationalError, match="malformed JSON"):
            supernet_training(db, LAST)


def test_there_is_none_before_the_first_child_has_made_its_steps(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite", 0, 100)) as ledger:
        ledger.admit(0, 1, [steps(3), score()], (1,))
        ledger.finish(2, Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0), 0.5)
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
            assert supernet_training(db, LAST) is None
        ledger.finish(1, Outcome.failed(Cause.CRASHED, "a test", seed=0), 0.0)
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
            assert supernet_training(db, LAST) is None
