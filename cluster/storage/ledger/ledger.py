"""The durable record of every child, attempt and batch: SQLite, one writer.

A child is recorded before it is dispatched, and its outcome before it is learnt from. Ray delivers calls at least
once, so every method may be called twice with the same arguments: the second call changes nothing.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Steps
from cluster.search.records import (
    Attempt,
    Batch,
    BatchResult,
    Ended,
    EndedAttempt,
    GpuUse,
    LedgerCall,
    StoreName,
    Stream,
    Turn,
    Verdict,
    made_together,
)
from cluster.search.seeding import child_seed
from cluster.storage.ledger.compact import equal_outcomes, outcome_text, stored_key
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.ledger.queries.final_tests import FinalTest, put_test
from cluster.storage.ledger.queries.run import last_attempt, last_child, last_completion, run_values
from cluster.storage.ledger.queries.usage import gpu_shares, memory_uses
from cluster.storage.ledger.rows import (
    AS_BEFORE,
    ATTEMPT_COLUMNS,
    CHILD_COLUMNS,
    IS_OTHER,
    NO_BATCH,
    RECORD_COLUMNS,
    all_records,
    attempt_by_key,
    attempt_of,
    child_of,
    end_attempts,
    end_child,
    first_open,
    form_batch,
    free_lanes,
    insert_child,
    insert_ended,
    last_batch,
    num_unbatched,
    put,
    records_of,
    use_row,
)
from cluster.storage.ledger.schema import migrate
from cluster.storage.ledger.totals import count_again
from cluster.storage.ledger.transactions import Transactions
from cluster.storage.run_folder import mark_begun
from controller.searcher import Child, ChildRecord, Proposal

Clock = Callable[[], float]


class Ledger:
    """The one writer of a run's ledger.

    Args:
        path: the SQLite file; created if missing.
        seed: the run's root seed, from which every child's seed is drawn.
        max_children: how many children the run may sample.
        clock: returns the Unix time.
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
        """Return a context: what this thread records in it becomes durable at its end, or none of it after an error."""
        return self._transaction.together()

    def make_all(self, calls: Sequence[LedgerCall]) -> list[Any] | None:
        """Make several calls in one transaction, and return what each returns, once all of it is durable.

        So many callers share one write to the disk. Returns `None` if a call raised an error: then none of them has
        changed anything, and a caller that makes them one by one learns which it was.
        """
        try:
            return made_together(self, calls)
        except Exception:
            return None

    def begin(
        self,
        workers: int,
        versions: Mapping[str, str] | None = None,
        gpus: float = 0.0,
        *,
        shares_vary: bool = False,
    ) -> None:
        """Record that the run starts or resumes.

        Args:
            workers: how many it has.
            versions: of its programs, by their names.
            gpus: that each child uses in this start.
            shares_vary: each attempt has a part of a GPU of its own, and `gpus` is what its worker reserves.
        """
        with self._transaction() as db:
            values = run_values(db)
            # Time between a stop and a resume does not count.
            spent = values.get("seconds_before", 0.0)
            if "started_at" in values:
                spent += max(0.0, values["beat_at"] - values["started_at"])  # the clock may have been set back
            now, known = self._clock(), json.loads(values.get("versions", "[]"))
            if versions and versions not in known:
                put(db, versions=json.dumps([*known, versions]))
            # Nothing that an earlier start began is still running.
            db.execute("UPDATE children SET state = 'sampled' WHERE state = 'running'")
            end = values.get("beat_at", now)
            # Of attempts that were made as one, the first has their time.
            db.execute(f"UPDATE attempts SET started_at = ? WHERE ended_at IS NULL AND {IS_OTHER}", (end,))
            db.execute("UPDATE attempts SET ended_at = ?, verdict = 'lost' WHERE ended_at IS NULL", (end,))
            count_again(db)
            put(db, **gpu_shares(db, gpus, shares_vary=shares_vary))
            db.execute("DELETE FROM addresses")
            put(db, state="running", message="", started_at=now, beat_at=now, seconds_before=spent, workers=workers)
            put(db, attempts_before=last_attempt(db))
        mark_begun(self._path)

    def beat(self) -> None:
        """Record a heartbeat of the run."""
        with self._transaction() as db:
            put(db, beat_at=self._clock())

    def staff(self, workers: int) -> None:
        """Record how many workers the run has from now on."""
        with self._transaction() as db:
            put(db, workers=workers)

    def end(self, state: str, message: str = "", since: float | None = None) -> None:
        """Record that the run is `finished`, `stopped` or `failed`, with the reason.

        Args:
            state: one of these.
            message: the reason.
            since: when this start of the run's driver was begun, as Unix time: if the run itself was not begun since
                then, it has used no time, and the pause before does not count.
        """
        with self._transaction() as db:
            paused = since is not None and run_values(db).get("started_at", since) < since
            put(db, state=state, message=message, **({} if paused else {"beat_at": self._clock()}))

    def record_test(self, test: FinalTest) -> bool:
        """Record a finished network's metric on the test data, durably; `False` if one was recorded before."""
        with self._transaction() as db:
            return put_test(db, test)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def turn(self, replica: int, applied: int | None = None) -> Turn:
        """See `ReplicaLedger.turn`."""
        with self._lock:
            return Turn(self.open_batch(replica, applied), self.last_batch(replica), self.completed())

    def open_batch(self, replica: int, applied: int | None = None) -> Batch | None:
        """Return the replica's first batch that was not learnt from, with the outcomes so far; see `turn`."""
        if applied is not None:
            with self._transaction() as db:
                # A shard fell back to an older snapshot, or was copied a little before the ledger.
                again = "UPDATE batches SET learned_at = NULL WHERE replica = ? AND number > ? AND pushed = 1"
                db.execute(f"{again} AND learned_at IS NOT NULL", (replica, applied))
        with self._lock:
            row = first_open(self._connection, replica)
            if row is None:
                return None
            children = self._children("replica = ? AND batch = ? ORDER BY id", replica, row[0])
        return Batch(replica=replica, number=row[0], versions=tuple(json.loads(row[1])), children=children)

    def last_batch(self, replica: int) -> int:
        """Return the number of the last batch that the replica has sampled, 0 before the first."""
        with self._lock:
            return last_batch(self._connection, replica)

    def last_child(self) -> int:
        """See `ReplicaLedger.last_child`."""
        with self._lock:
            return last_child(self._connection)

    def admit(
        self,
        replica: int,
        number: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...],
        after: int | None = None,
        origin: str = "",
    ) -> Batch | None:
        """See `ReplicaLedger.admit`."""
        with self._transaction() as db:
            known = db.execute("SELECT 1 FROM batches WHERE replica = ? AND number = ?", (replica, number)).fetchone()
            admitted = () if known else self._admissible(proposals, after)
            if admitted:
                db.execute(
                    "INSERT INTO batches (replica, number, versions, sampled_at) VALUES (?, ?, ?, ?)",
                    (replica, number, json.dumps(versions), self._clock()),
                )
            children = self._sample(replica, number, admitted, origin=origin)
            # What would be read back is what was written, but for notes and jobs, which JSON may change.
            plain = children and not any(one.notes or one.job for one in admitted)
            if plain and (open_batch := first_open(db, replica)) and open_batch[0] == number:
                return Batch(replica=replica, number=number, versions=tuple(versions), children=tuple(children))
        return self.open_batch(replica)

    def stream(self, replica: int) -> Stream:
        """See `ReplicaLedger.stream`."""
        with self._lock:
            outstanding = self._children(
                "replica = ? AND batch = ? AND completion IS NULL ORDER BY id", replica, NO_BATCH
            )
            return Stream(
                last_batch=last_batch(self._connection, replica),
                ended=num_unbatched(self._connection, replica) - len(outstanding),
                outstanding=outstanding,
                room=self._max_children - last_child(self._connection),
            )

    def add_children(
        self,
        replica: int,
        number: int,
        unbatched: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...],
        after: int | None = None,
        origin: str = "",
    ) -> Stream:
        """See `ReplicaLedger.add_children`."""
        with self._transaction() as db:
            if number > last_batch(db, replica) and unbatched == num_unbatched(db, replica):
                self._sample(replica, NO_BATCH, self._admissible(proposals, after), versions, origin)
            return self.stream(replica)

    def form_batch(self, replica: int, number: int, size: int) -> None:
        """See `ReplicaLedger.form_batch`."""
        with self._transaction() as db:
            if number > last_batch(db, replica):
                form_batch(db, replica, number, size)

    def _admissible(self, proposals: Sequence[Proposal], after: int | None) -> Sequence[Proposal]:
        """Return the proposals that may be recorded now."""
        last = last_child(self._connection)
        return () if after not in (None, last) else proposals[: max(0, self._max_children - last)]

    def _sample(
        self,
        replica: int,
        batch: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...] | None = None,
        origin: str = "",
    ) -> list[Child]:
        """Insert the children of these proposals, and return them."""
        db, children = self._connection, list[Child]()
        lanes = free_lanes(db, replica)
        said = origin or None
        for child_id, proposal in enumerate(proposals, start=last_child(db) + 1):
            graph = self._graphs.add(proposal.architecture) if proposal.architecture else None
            lane = next(lanes) if isinstance(proposal.job, Steps) else None
            child, seed = Child(id=child_id, proposal=proposal, lane=lane), child_seed(self._seed, child_id)
            insert_child(db, child, (replica, batch), graph, seed, self._clock(), (versions, said))
            said = AS_BEFORE if origin else None
            children.append(child)
        return children

    def start(
        self,
        child_id: int,
        worker: str,
        key: str | None = None,
        *,
        slot: int = 0,
        batch_size: int | None = None,
        gpu: GpuUse | None = None,
    ) -> None:
        """See `AttemptLedger.start`. Two calls with the same `key` are one attempt."""
        with self._transaction() as db:
            known = key is not None and attempt_by_key(db, key) is not None
            open_child = "UPDATE children SET state = 'running' WHERE id = ? AND completion IS NULL"
            if known or not db.execute(open_child, (child_id,)).rowcount:
                return
            now = self._clock()
            db.execute(
                "UPDATE attempts SET ended_at = ?, verdict = 'lost' WHERE child = ? AND ended_at IS NULL",
                (now, child_id),
            )
            (number,) = db.execute("SELECT count(*) + 1 FROM attempts WHERE child = ?", (child_id,)).fetchone()
            db.execute(
                "INSERT INTO attempts (child, number, worker, key, slot, batch_size, started_at, gpu, gpu_share,"
                " gpu_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (child_id, number, worker, stored_key(child_id, number, key), slot, batch_size, now, *use_row(gpu)),
            )

    def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """See `AttemptLedger.end_attempt`. An outcome in a later report is kept with the attempt."""
        with self._transaction() as db:
            attempt_id = attempt_by_key(db, key)
            if attempt_id is None:
                return False
            query = "SELECT child, verdict FROM attempts WHERE attempt_id = ?"
            child_id, ended = db.execute(query, (attempt_id,)).fetchone()
            if ended is not None:
                (known,) = self._attempts("attempt_id = ?", attempt_id)
                same = equal_outcomes(known.outcome, outcome)
                if known.verdict == verdict and same:
                    return True  # the same report, delivered twice
                # A worker may repeat an earlier report.
                if outcome and known.verdict != Verdict.OUTCOME and not same:
                    late = "UPDATE attempts SET verdict = 'late', outcome = ? WHERE attempt_id = ?"
                    db.execute(late, (outcome_text(outcome), attempt_id))
                return False
            end_attempts(db, "attempt_id = ?", attempt_id, self._clock(), outcome, verdict)
            if verdict != Verdict.OUTCOME:
                again = "UPDATE children SET state = 'sampled' WHERE id = ? AND state = 'running'"
                db.execute(again, (child_id,))
            return True

    def now(self) -> float:
        """See `AttemptLedger.now`."""
        return self._clock()

    def record_attempt(self, attempt: EndedAttempt) -> None:
        """See `AttemptLedger.record_attempt`."""
        with self._transaction() as db:
            attempt_id = insert_ended(db, attempt)
            if attempt_id is None:
                return
            # In one transaction with the child's outcome, which follows, no row needs a copy of it.
            kept = attempt.verdict == Verdict.OUTCOME and self._transaction.joined
            ended = self._clock(), attempt.outcome, attempt.verdict
            end_attempts(db, "attempt_id = ?", attempt_id, *ended, kept=kept)

    def share_time(self, keys: Sequence[str]) -> None:
        """See `AttemptLedger.share_time`."""
        marks = ", ".join("?" * len(keys))
        with self._transaction() as db:
            found = [attempt_by_key(db, key) for key in keys]
            query = f"SELECT min(started_at), max(ended_at) FROM attempts WHERE attempt_id IN ({marks})"
            start, end = db.execute(query, found).fetchone()
            if start is None or end is None:
                return  # none was begun, as their children had ended
            each = max(0.0, end - start) / len(keys)
            for place, attempt_id in enumerate(found):
                times = (start + place * each, start + (place + 1) * each, attempt_id)
                db.execute("UPDATE attempts SET started_at = ?, ended_at = ? WHERE attempt_id = ?", times)

    def attempts(self, child_id: int) -> tuple[Attempt, ...]:
        """See `AttemptLedger.attempts`."""
        return self._attempts("child = ? ORDER BY number", child_id)

    def running(self) -> tuple[Attempt, ...]:
        """Return the attempts that have not ended."""
        return self._attempts("ended_at IS NULL ORDER BY child")

    def memory_uses(self) -> tuple[tuple[int, int], ...]:
        """Return what trainings were predicted to take of a GPU's memory and what they took, in bytes, in any order."""
        with self._lock:
            return memory_uses(self._connection)

    def open_children(self) -> tuple[int, ...]:
        """Return the ids of the children that have not ended."""
        with self._lock:
            return tuple(row[0] for row in self._connection.execute("SELECT id FROM children WHERE completion IS NULL"))

    def finish(self, child_id: int, outcome: Outcome, reward: float | None) -> ChildRecord:
        """See `ReplicaLedger.finish`."""
        with self._transaction() as db:
            now = self._clock()
            end_attempts(db, "child = ? AND ended_at IS NULL", child_id, now, outcome, Verdict.OUTCOME, kept=True)
            ended = end_child(db, child_id, now, outcome, reward)
            return next(records_of([ended])) if ended else self._records("id = ?", child_id)[0]

    def finish_all(self, children: Sequence[Ended]) -> Sequence[ChildRecord]:
        """See `ReplicaLedger.finish_all`."""
        with self.together():
            return tuple(self.finish(*child) for child in children)

    def learned(self, replica: int, number: int, result: BatchResult) -> None:
        """See `ReplicaLedger.learned`."""
        with self._transaction() as db:
            db.execute(
                "UPDATE batches SET learned_at = ?, pushed = ?, staleness = ?, figures = ?, pull_seconds = ?,"
                " push_seconds = ? WHERE replica = ? AND number = ? AND learned_at IS NULL",
                (
                    self._clock(),
                    result.staleness is not None,
                    json.dumps(result.staleness),
                    json.dumps(dict(result.figures)),
                    result.pull_seconds,
                    result.push_seconds,
                    replica,
                    number,
                ),
            )

    def completed(self) -> int:
        """See `ReplicaLedger.completed`."""
        with self._lock:
            return last_completion(self._connection)

    def history(self, after: int = 0) -> Sequence[ChildRecord]:
        """See `ReplicaLedger.history`."""
        later = "completion > coalesce((SELECT completion FROM children WHERE id = ?), 0)"
        with self._lock:
            return self._records(f"{later} ORDER BY completion", after)

    def pending(self) -> Sequence[ChildRecord]:
        """See `ReplicaLedger.pending`."""
        with self._lock:
            return self._records("completion IS NULL ORDER BY id")

    def serve(self, shards: Sequence[int], address: str, store: StoreName = "policy") -> None:
        """Record that these shards of a store are served at host:port from now on."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO addresses (store, shard, address) VALUES (?, ?, ?)"
                " ON CONFLICT (store, shard) DO UPDATE SET address = excluded.address",
                [(store, shard, address) for shard in shards],
            )

    def addresses(self, store: StoreName = "policy") -> tuple[str, ...]:
        """Return the addresses of a store's shards that are served, in the shards' order."""
        query = "SELECT address FROM addresses WHERE store = ? ORDER BY shard"
        with self._lock:
            return tuple(row[0] for row in self._connection.execute(query, (store,)))

    def _attempts(self, where: str, *values: object) -> tuple[Attempt, ...]:
        with self._lock:
            rows = self._connection.execute(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE {where}", values).fetchall()
        return tuple(attempt_of(*row) for row in rows)

    def _records(self, where: str, *values: object) -> tuple[ChildRecord, ...]:
        rows = self._connection.execute(f"SELECT {RECORD_COLUMNS} FROM children WHERE {where}", values)
        return tuple(all_records(rows))

    def _children(self, where: str, *values: object) -> tuple[Child, ...]:
        query = f"SELECT {CHILD_COLUMNS} FROM children WHERE {where}"
        rows = self._connection.execute(query, values).fetchall()
        return tuple(child_of(*row, get=self._graphs.get) for row in rows)
