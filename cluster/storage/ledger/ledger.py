"""The durable record of every child, attempt and batch: SQLite, one writer.

A child is here before it is dispatched, its outcome before it is learnt from. Every method may be called
twice with the same arguments and then changes nothing the second time, since Ray delivers at least once.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from child_trainer.outcome import Outcome
from cluster.search.records import Attempt, Batch, Lesson, Stream, Verdict
from cluster.search.seeding import child_seed
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.ledger.rows import (
    ATTEMPT_COLUMNS,
    CHILD_COLUMNS,
    NO_BATCH,
    RECORD_COLUMNS,
    attempt_of,
    child_of,
    end_attempts,
    end_child,
    gather,
    insert_child,
    last_batch,
    last_child,
    loose_children,
    outcome_text,
    put,
    record_of,
)
from cluster.storage.ledger.schema import migrate
from cluster.storage.ledger.transactions import Transactions
from cluster.storage.run_folder import mark_begun
from controller.searcher import Child, ChildRecord, Proposal

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
        self._path = path
        self._seed = seed
        self._max_children = max_children
        self._clock = clock
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._transaction = Transactions(self._connection)
        self._lock = self._transaction.lock
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        migrate(self._connection, str(path))
        self._graphs = GraphTable(self._connection)

    def together(self) -> AbstractContextManager[None]:
        """All that this thread records within becomes durable at its end, as one; nothing of it after an error."""
        return self._transaction.together()

    def begin(self, workers: int, versions: Mapping[str, str] | None = None) -> None:
        """The run starts, or goes on, with programs of these versions by their names."""
        with self._transaction() as db:
            found = dict(db.execute("SELECT key, value FROM run"))
            # Time between a stop and a resume does not count.
            spent = found.get("seconds_before", 0.0)
            if "started_at" in found:
                spent += found["beat_at"] - found["started_at"]
            now, ran = self._clock(), json.loads(found.get("versions", "[]"))
            if versions and versions not in ran:
                put(db, versions=json.dumps([*ran, versions]))
            # Nothing of an earlier start is running any more.
            db.execute("UPDATE children SET state = 'sampled' WHERE state = 'running'")
            db.execute(
                "UPDATE attempts SET ended_at = ?, verdict = 'lost' WHERE ended_at IS NULL",
                (found.get("beat_at", now),),
            )
            db.execute("DELETE FROM addresses")
            put(db, state="running", message="", started_at=now, beat_at=now, seconds_before=spent, workers=workers)
        mark_begun(self._path)

    def beat(self) -> None:
        """The run is alive."""
        with self._transaction() as db:
            put(db, beat_at=self._clock())

    def staff(self, workers: int) -> None:
        """The run has so many workers from now on."""
        with self._transaction() as db:
            put(db, workers=workers)

    def end(self, state: str, message: str = "") -> None:
        """The run is `finished`, `stopped` or `failed`, with a word on why."""
        with self._transaction() as db:
            put(db, state=state, message=message, beat_at=self._clock())

    def close(self) -> None:
        """Close the file; everything that was recorded is in it."""
        with self._lock:
            self._connection.close()

    def open_batch(self, replica: int, applied: int | None = None) -> Batch | None:
        """See `ReplicaLedger.open_batch`."""
        if applied is not None:
            with self._transaction() as db:
                # A shard that fell back to an older snapshot, or was copied a little before the ledger was.
                again = "UPDATE batches SET learned_at = NULL WHERE replica = ? AND number > ? AND pushed = 1"
                db.execute(f"{again} AND learned_at IS NOT NULL", (replica, applied))
        with self._lock:
            row = self._connection.execute(
                "SELECT number, versions FROM batches WHERE replica = ? AND learned_at IS NULL ORDER BY number LIMIT 1",
                (replica,),
            ).fetchone()
            if row is None:
                return None
            children = self._children("replica = ? AND batch = ? ORDER BY id", replica, row[0])
        return Batch(replica=replica, number=row[0], versions=tuple(json.loads(row[1])), children=children)

    def last_batch(self, replica: int) -> int:
        """See `ReplicaLedger.last_batch`."""
        with self._lock:
            return last_batch(self._connection, replica)

    def admit(
        self, replica: int, number: int, proposals: Sequence[Proposal], versions: tuple[int, ...]
    ) -> Batch | None:
        """Record a new batch, durably; cut to what the run's limit allows, `None` when that is reached."""
        with self._transaction() as db:
            known = db.execute("SELECT 1 FROM batches WHERE replica = ? AND number = ?", (replica, number)).fetchone()
            admitted = () if known else proposals[: max(0, self._max_children - last_child(db))]
            if admitted:
                db.execute(
                    "INSERT INTO batches (replica, number, versions, sampled_at) VALUES (?, ?, ?, ?)",
                    (replica, number, json.dumps(versions), self._clock()),
                )
            self._sample(replica, number, admitted)
        return self.open_batch(replica)

    def stream(self, replica: int) -> Stream:
        """See `ReplicaLedger.stream`."""
        with self._lock:
            outstanding = self._children(
                "replica = ? AND batch = ? AND completion IS NULL ORDER BY id", replica, NO_BATCH
            )
            return Stream(
                last_batch=last_batch(self._connection, replica),
                ended=loose_children(self._connection, replica) - len(outstanding),
                outstanding=outstanding,
                room=self._max_children - last_child(self._connection),
            )

    def extend(
        self, replica: int, number: int, loose: int, proposals: Sequence[Proposal], versions: tuple[int, ...]
    ) -> Stream:
        """See `ReplicaLedger.extend`."""
        with self._transaction() as db:
            if number > last_batch(db, replica) and loose == loose_children(db, replica):
                self._sample(replica, NO_BATCH, proposals[: max(0, self._max_children - last_child(db))], versions)
            return self.stream(replica)

    def gather(self, replica: int, number: int, size: int) -> None:
        """See `ReplicaLedger.gather`."""
        with self._transaction() as db:
            if number > last_batch(db, replica):
                gather(db, replica, number, size)

    def _sample(
        self, replica: int, batch: int, proposals: Sequence[Proposal], versions: tuple[int, ...] | None = None
    ) -> None:
        db = self._connection
        for child_id, proposal in enumerate(proposals, start=last_child(db) + 1):
            graph, seed = self._graphs.add(proposal.architecture), child_seed(self._seed, child_id)
            insert_child(db, (child_id, replica, batch), proposal, graph, seed, self._clock(), versions)

    def start(
        self, child_id: int, worker: str, key: str | None = None, *, slot: int = 0, batch_size: int | None = None
    ) -> None:
        """A worker begins an attempt at a child; a `key` makes a start that is delivered twice one."""
        with self._transaction() as db:
            known = db.execute("SELECT 1 FROM attempts WHERE key = ?", (key,)).fetchone()
            open_child = "UPDATE children SET state = 'running' WHERE id = ? AND completion IS NULL"
            if known or not db.execute(open_child, (child_id,)).rowcount:
                return
            now = self._clock()
            db.execute(
                "UPDATE attempts SET ended_at = ?, verdict = 'lost' WHERE child = ? AND ended_at IS NULL",
                (now, child_id),
            )
            db.execute(
                "INSERT INTO attempts (child, number, worker, key, slot, batch_size, started_at)"
                " SELECT ?, count(*) + 1, ?, ?, ?, ?, ? FROM attempts WHERE child = ?",
                (child_id, worker, key, slot, batch_size, now, child_id),
            )

    def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """See `AttemptLedger.end_attempt`. A word that is not the first is kept beside it if it brings an outcome."""
        with self._transaction() as db:
            found = db.execute("SELECT child, verdict, outcome FROM attempts WHERE key = ?", (key,)).fetchone()
            if found is None:
                return False
            child_id, known, known_outcome = found
            text = outcome_text(outcome)
            if known is not None:
                if known == verdict and known_outcome == text:
                    return True  # the same word, delivered twice
                # A worker that reports what it has said before brings nothing new.
                if outcome and known != Verdict.OUTCOME and text != known_outcome:
                    db.execute("UPDATE attempts SET verdict = 'late', outcome = ? WHERE key = ?", (text, key))
                return False
            end_attempts(db, "key = ?", key, self._clock(), outcome, verdict)
            if verdict != Verdict.OUTCOME:
                db.execute("UPDATE children SET state = 'sampled' WHERE id = ? AND state = 'running'", (child_id,))
            return True

    def attempts(self, child_id: int) -> tuple[Attempt, ...]:
        """The attempts at a child, oldest first."""
        return self._attempts("child = ? ORDER BY number", child_id)

    def running(self) -> tuple[Attempt, ...]:
        """The attempts that have not ended."""
        return self._attempts("ended_at IS NULL ORDER BY child")

    def open_children(self) -> tuple[int, ...]:
        """The ids of the children that have not ended."""
        with self._lock:
            return tuple(row[0] for row in self._connection.execute("SELECT id FROM children WHERE completion IS NULL"))

    def finish(self, child_id: int, outcome: Outcome, reward: float | None) -> ChildRecord:
        """See `ReplicaLedger.finish`."""
        with self._transaction() as db:
            now = self._clock()
            end_child(db, child_id, now, outcome, reward)
            end_attempts(db, "child = ? AND ended_at IS NULL", child_id, now, outcome, Verdict.OUTCOME)
            return self._records("id = ?", child_id)[0]

    def learned(self, replica: int, number: int, lesson: Lesson) -> None:
        """Record that a batch was learnt from, durably."""
        with self._transaction() as db:
            db.execute(
                "UPDATE batches SET learned_at = ?, pushed = ?, staleness = ?, figures = ?, pull_seconds = ?,"
                " push_seconds = ? WHERE replica = ? AND number = ? AND learned_at IS NULL",
                (
                    self._clock(),
                    lesson.staleness is not None,
                    json.dumps(lesson.staleness),
                    json.dumps(dict(lesson.figures)),
                    lesson.pull_seconds,
                    lesson.push_seconds,
                    replica,
                    number,
                ),
            )

    def completed(self) -> int:
        """How many children have ended."""
        with self._lock:
            return self._connection.execute("SELECT coalesce(max(completion), 0) FROM children").fetchone()[0]

    def history(self, after: int = 0) -> Sequence[ChildRecord]:
        """See `ReplicaLedger.history`."""
        later = "completion > coalesce((SELECT completion FROM children WHERE id = ?), 0)"
        with self._lock:
            return self._records(f"{later} ORDER BY completion", after)

    def pending(self) -> Sequence[ChildRecord]:
        """The children that were sampled and have not ended."""
        with self._lock:
            return self._records("completion IS NULL ORDER BY id")

    def serve(self, shards: Sequence[int], address: str) -> None:
        """The shards are served at host:port from now on."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO addresses (shard, address) VALUES (?, ?)"
                " ON CONFLICT (shard) DO UPDATE SET address = excluded.address",
                [(shard, address) for shard in shards],
            )

    def addresses(self) -> tuple[str, ...]:
        """Where the shards are served, in their order; those that are not served yet are left out."""
        with self._lock:
            return tuple(row[0] for row in self._connection.execute("SELECT address FROM addresses ORDER BY shard"))

    def _attempts(self, where: str, *values: object) -> tuple[Attempt, ...]:
        with self._lock:
            rows = self._connection.execute(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE {where}", values).fetchall()
        return tuple(attempt_of(*row) for row in rows)

    def _records(self, where: str, *values: object) -> tuple[ChildRecord, ...]:
        rows = self._connection.execute(f"SELECT {RECORD_COLUMNS} FROM children WHERE {where}", values)
        return tuple(record_of(*row) for row in rows)

    def _children(self, where: str, *values: object) -> tuple[Child, ...]:
        query = f"SELECT {CHILD_COLUMNS} FROM children WHERE {where}"
        rows = self._connection.execute(query, values).fetchall()
        return tuple(child_of(*row, get=self._graphs.get) for row in rows)
