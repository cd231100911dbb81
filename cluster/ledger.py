"""The durable record of every child, attempt and batch: SQLite, one writer.

A child is here before it is dispatched, its outcome before it is learnt from. Every method may be called
twice with the same arguments and then changes nothing the second time, since Ray delivers at least once.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from child_trainer.architecture import Architecture
from child_trainer.outcome import Outcome
from cluster.records import Batch, Lesson
from cluster.schema import migrate
from cluster.seeding import child_seed
from controller.searcher import Child, Proposal

Clock = Callable[[], float]


class Ledger:
    """The writer.

    Args:
        path: the SQLite file; made if it is not there.
        seed: the run's root seed, from which every child's seed is drawn.
        max_children: how many children the run may sample.
        clock: gives the Unix time.
    """

    def __init__(self, path: Path, seed: int, max_children: int, clock: Clock = time.time) -> None:
        self._seed = seed
        self._max_children = max_children
        self._clock = clock
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        migrate(self._connection, str(path))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def begin(self, workers: int) -> None:
        """The run starts, or goes on."""
        with self._transaction() as db:
            found = dict(db.execute("SELECT key, value FROM run"))
            # Time between a stop and a resume does not count.
            spent = found.get("seconds_before", 0.0)
            if "started_at" in found:
                spent += found["beat_at"] - found["started_at"]
            now = self._clock()
            # Nothing of an earlier start is running any more.
            db.execute("UPDATE children SET state = 'sampled' WHERE state = 'running'")
            db.execute("UPDATE attempts SET ended_at = ? WHERE ended_at IS NULL", (found.get("beat_at"),))
            _put(db, state="running", message="", started_at=now, beat_at=now, seconds_before=spent, workers=workers)

    def beat(self) -> None:
        """The run is alive."""
        with self._transaction() as db:
            _put(db, beat_at=self._clock())

    def end(self, state: str, message: str = "") -> None:
        """The run is `finished`, `stopped` or `failed`, with a word on why."""
        with self._transaction() as db:
            _put(db, state=state, message=message, beat_at=self._clock())

    def close(self) -> None:
        """Close the file; everything that was recorded is in it."""
        with self._lock:
            self._connection.close()

    def open_batch(self, replica: int) -> Batch | None:
        """The replica's batch that was sampled and not learnt from, with the outcomes so far."""
        with self._lock:
            row = self._connection.execute(
                "SELECT number, versions FROM batches WHERE replica = ? AND learned_at IS NULL", (replica,)
            ).fetchone()
            if row is None:
                return None
            children = self._children("replica = ? AND batch = ? ORDER BY id", replica, row[0])
        return Batch(replica=replica, number=row[0], versions=tuple(json.loads(row[1])), children=children)

    def num_batches(self, replica: int) -> int:
        """How many batches the replica has sampled."""
        return self._number("SELECT count(*) FROM batches WHERE replica = ?", replica)

    def admit(
        self, replica: int, number: int, proposals: Sequence[Proposal], versions: tuple[int, ...]
    ) -> Batch | None:
        """Record a new batch, durably; cut to what the run's limit allows, `None` when that is reached."""
        with self._transaction() as db:
            known = db.execute("SELECT 1 FROM batches WHERE replica = ? AND number = ?", (replica, number)).fetchone()
            (sampled,) = db.execute("SELECT coalesce(max(id), 0) FROM children").fetchone()
            admitted = () if known else proposals[: max(0, self._max_children - sampled)]
            if admitted:
                db.execute(
                    "INSERT INTO batches (replica, number, versions, sampled_at) VALUES (?, ?, ?, ?)",
                    (replica, number, json.dumps(versions), self._clock()),
                )
            for child_id, proposal in enumerate(admitted, start=sampled + 1):
                self._insert(db, child_id, replica, number, proposal)
        return self.open_batch(replica)

    def _insert(self, db: sqlite3.Connection, child_id: int, replica: int, number: int, proposal: Proposal) -> None:
        architecture = proposal.architecture
        db.execute(
            "INSERT INTO children (id, replica, batch, tokens, architecture, architecture_id, log_prob, seed, state,"
            " sampled_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'sampled', ?)",
            (
                child_id,
                replica,
                number,
                json.dumps(proposal.tokens),
                json.dumps(architecture.to_json()),
                architecture.id,
                proposal.log_prob,
                child_seed(self._seed, child_id),
                self._clock(),
            ),
        )

    def start(self, child_id: int, worker: str, key: str | None = None) -> None:
        """A worker begins an attempt at a child; a `key` makes a start that is delivered twice one."""
        with self._transaction() as db:
            known = db.execute("SELECT 1 FROM attempts WHERE key = ?", (key,)).fetchone()
            open_child = "UPDATE children SET state = 'running' WHERE id = ? AND completion IS NULL"
            if known or not db.execute(open_child, (child_id,)).rowcount:
                return
            now = self._clock()
            db.execute("UPDATE attempts SET ended_at = ? WHERE child = ? AND ended_at IS NULL", (now, child_id))
            db.execute(
                "INSERT INTO attempts (child, number, worker, key, started_at)"
                " SELECT ?, count(*) + 1, ?, ?, ? FROM attempts WHERE child = ?",
                (child_id, worker, key, now, child_id),
            )

    def finish(self, child_id: int, outcome: Outcome, reward: float) -> Child:
        """Record a child's outcome, durably; the first one wins, and the child is given back as it is recorded."""
        with self._transaction() as db:
            now = self._clock()
            db.execute(
                "UPDATE children SET state = ?, ended_at = ?, reward = ?, metric = ?, parameters = ?, flops = ?,"
                " seconds = ?, cause = ?, outcome = ?,"
                " completion = (SELECT coalesce(max(completion), 0) + 1 FROM children)"
                " WHERE id = ? AND completion IS NULL",
                (
                    "failed" if outcome.failure else "finished",
                    now,
                    reward,
                    outcome.metric,
                    outcome.parameters,
                    outcome.flops,
                    outcome.seconds,
                    outcome.failure.cause if outcome.failure else None,
                    json.dumps(outcome.to_json()),
                    child_id,
                ),
            )
            db.execute("UPDATE attempts SET ended_at = ? WHERE child = ? AND ended_at IS NULL", (now, child_id))
            return self._children("id = ?", child_id)[0]

    def learned(self, replica: int, number: int, lesson: Lesson) -> None:
        """Record that a batch was learnt from, durably."""
        with self._transaction() as db:
            db.execute(
                "UPDATE batches SET learned_at = ?, pushed = ?, staleness = ?, figures = ?"
                " WHERE replica = ? AND number = ? AND learned_at IS NULL",
                (
                    self._clock(),
                    lesson.staleness is not None,
                    json.dumps(lesson.staleness),
                    json.dumps(dict(lesson.figures)),
                    replica,
                    number,
                ),
            )

    def completed(self) -> int:
        """How many children have ended."""
        return self._number("SELECT coalesce(max(completion), 0) FROM children")

    def history(self) -> Sequence[Child]:
        """The ended children in completion order."""
        with self._lock:
            return self._children("completion IS NOT NULL ORDER BY completion")

    def pending(self) -> Sequence[Child]:
        """The children that were sampled and have not ended."""
        with self._lock:
            return self._children("completion IS NULL ORDER BY id")

    def _number(self, query: str, *values: object) -> int:
        with self._lock:
            return self._connection.execute(query, values).fetchone()[0]

    def _children(self, where: str, *values: object) -> tuple[Child, ...]:
        query = f"SELECT id, tokens, architecture, log_prob, outcome, reward FROM children WHERE {where}"
        return tuple(_child(*row) for row in self._connection.execute(query, values))


def _child(
    child_id: int, tokens: str, architecture: str, log_prob: float | None, outcome: str | None, reward: float | None
) -> Child:
    proposal = Proposal(
        tokens=tuple(json.loads(tokens)),
        architecture=Architecture.from_json(json.loads(architecture)),
        log_prob=log_prob,
    )
    ended = Outcome.from_json(json.loads(outcome)) if outcome else None
    return Child(id=child_id, proposal=proposal, outcome=ended, reward=reward)


def _put(db: sqlite3.Connection, **values: float | str) -> None:
    upsert = "INSERT INTO run (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    db.executemany(upsert, values.items())
