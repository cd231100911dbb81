"""The ledger's rows as objects, and back. Standard library only."""

import gc
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Cause, Outcome
from child_trainer.supernets.jobs import Job, job_from_json, job_to_json
from cluster.search.records import Attempt, EndedAttempt, GpuUse, Verdict
from cluster.storage.ledger.compact import (
    OUTCOME_COLUMNS,
    child_text,
    key_of,
    outcome_from,
    outcome_of,
    outcome_text,
    packed_key,
)
from controller.searcher import Child, ChildRecord, Lane, Proposal

CHILD_COLUMNS = (
    f"id, {OUTCOME_COLUMNS}, tokens, graph, log_prob, reward, notes, same_as, job, replica, lane, steps_before"
)
"""What `child_of` takes."""

RECORD_COLUMNS = f"id, tokens, graph, architecture_id, reward, {OUTCOME_COLUMNS}, log_prob, notes, same_as, job"
"""What `records_of` takes."""

_REAL = ("reward", "metric", "seconds", "log_prob")

_RETURNED = ", ".join(f"CAST({name} AS REAL)" if name in _REAL else name for name in RECORD_COLUMNS.split(", "))
"""The same for `RETURNING`, with which SQLite gives whole numbers of a real column as integers."""

_OF_CHILD = "(SELECT {} FROM children WHERE id = child)"

ATTEMPT_COLUMNS = ", ".join(
    (
        *("child", "number", "key", "coalesce(slot, 0)", "worker", "batch_size", "started_at", "verdict", "cause"),
        *("gpu", "gpu_share", "gpu_bytes"),
        "outcome",
        f"iif(outcome IS NULL AND verdict = 'outcome', {_OF_CHILD.format('outcome')}, NULL)",
        *(_OF_CHILD.format(column) for column in OUTCOME_COLUMNS.split(", ")[1:]),
    )
)
"""What `attempt_of` takes."""

IS_OTHER = "(typeof(key) = 'text' AND instr(key, '+') > 0)"
"""Whether an attempt is made as one with another one that has the order's key; see `cluster.search.records.fused_key`.

While it runs, its time is that of the other one.
"""

NUM_OUTCOME_COLUMNS = len(OUTCOME_COLUMNS.split(", "))

ON_SHARED_WEIGHTS = "(lane IS NOT NULL OR coalesce(json_extract(job, '$.kind') = 'score', 0))"
"""Whether a child's job is on weights that children share: 1 or 0.

Only steps have a lane. Their jobs may be long, with a path for each step, and SQLite reads the whole text for one key.
"""

AS_BEFORE = ""
"""In place of an origin: that of the child before, with which the child was proposed.

Earlier versions wrote it for each of them.
"""

NO_BATCH = 0
"""The batch number of a child that is in no batch yet; batches count from 1."""


def child_of(*row: Any, get: Callable[[int], Architecture]) -> Child:
    """Return a child from its row; `get` gives the architecture of the graph's key."""
    tokens, graph, log_prob, reward, notes, same_as, job, *lane = row[NUM_OUTCOME_COLUMNS + 1 :]
    proposal = Proposal(
        tokens=tuple(json.loads(tokens)),
        architecture=None if graph is None else get(graph),
        log_prob=log_prob,
        notes=json.loads(notes) if notes else {},
        same_as=same_as,
        job=_job_of(job),
    )
    ended = outcome_of(*row[1 : NUM_OUTCOME_COLUMNS + 1])
    return Child(
        id=row[0], proposal=proposal, outcome=ended, reward=reward, lane=None if lane[1] is None else Lane(*lane)
    )


def records_of(rows: Iterable[tuple[Any, ...]]) -> Iterator[ChildRecord]:
    """Yield what a searcher sees of children, from their rows.

    A resume reads all rows of a search with it: the tokens of a graph are read once, and what few searchers ask for is
    read when they do.
    """
    known: dict[int | None, tuple[str, str, tuple[int, ...]]] = {}
    none = ("", "", ())
    make = ChildRecord.reading_later
    for row in rows:
        child, decisions, graph, network, reward, outcome = row[:6]
        known_decisions, known_network, tokens = known.get(graph, none)
        if decisions == known_decisions and network == known_network:
            network = known_network  # one text for all
        else:
            tokens = tuple(json.loads(decisions))
            known[graph] = decisions, network, tokens
        if outcome:
            yield make(child, tokens, network, reward, _read_later, row[5:])
        else:
            later = {name: _read_later(name, row[5:]) for name in ("log_prob", "notes", "same_as", "job")}
            yield ChildRecord(id=child, tokens=tokens, architecture_id=network, reward=reward, **later)


def _read_later(name: str, columns: tuple[Any, ...]) -> Any:
    """Return an attribute of a child's record from what follows its reward in `RECORD_COLUMNS`."""
    if name == "outcome":
        return outcome_of(*columns[:NUM_OUTCOME_COLUMNS])
    log_prob, notes, same_as, job = columns[NUM_OUTCOME_COLUMNS:]
    if name == "notes":
        return json.loads(notes) if notes else {}
    if name == "job":
        return _job_of(job)
    return log_prob if name == "log_prob" else same_as


def all_records(rows: Iterable[tuple[Any, ...]]) -> list[ChildRecord]:
    """Return `records_of` these rows, however many they are."""
    collects = gc.isenabled()
    gc.disable()  # each collection would look at all records so far, none of which is garbage
    try:
        return list(records_of(rows))
    finally:
        if collects:
            gc.enable()


def _job_of(text: str | None) -> Job | None:
    return job_from_json(json.loads(text)) if text else None


def attempt_of(*row: Any) -> Attempt:
    """Return an attempt from its row."""
    child_id, number, key, slot, worker, batch_size, started_at, verdict, cause, gpu, share, size, own, *of_child = row
    return Attempt(
        child_id=child_id,
        seed=of_child[1],
        key=key_of(child_id, number, key),
        slot=slot,
        worker=worker,
        batch_size=batch_size,
        started_at=started_at,
        verdict=Verdict(verdict) if verdict else None,
        cause=Cause(cause) if cause else None,
        outcome=outcome_from(own) if own else outcome_of(*of_child),
        gpu=None if gpu is None else GpuUse(gpu=gpu, share=share, predicted_bytes=size),
    )


def use_row(use: GpuUse | None) -> tuple[str | None, float | None, int | None]:
    """Return the columns of what an attempt has of a GPU."""
    return (None, None, None) if use is None else (use.gpu, use.share, use.predicted_bytes)


def attempt_by_key(db: sqlite3.Connection, key: str) -> int | None:
    """Return the id of the attempt with this key, `None` if there is none."""
    child, _, number = key.partition("-")
    if number.isdecimal() and child.isdecimal():
        query = "SELECT attempt_id FROM attempts WHERE child = ? AND number = ? AND key IS NULL"
        if row := db.execute(query, (int(child), int(number))).fetchone():
            return row[0]
    # Earlier versions stored hexadecimal digits as text.
    row = db.execute("SELECT attempt_id FROM attempts WHERE key IN (?, ?)", (key, packed_key(key))).fetchone()
    return row and row[0]


def last_batch(db: sqlite3.Connection, replica: int) -> int:
    """Return the number of the replica's last batch, 0 before the first."""
    return db.execute("SELECT coalesce(max(number), 0) FROM batches WHERE replica = ?", (replica,)).fetchone()[0]


def first_open(db: sqlite3.Connection, replica: int) -> tuple[int, str] | None:
    """Return the number and the versions, JSON, of the replica's first batch that it has not learnt from, if any."""
    query = "SELECT number, versions FROM batches WHERE replica = ? AND learned_at IS NULL ORDER BY number LIMIT 1"
    return db.execute(query, (replica,)).fetchone()


def num_unbatched(db: sqlite3.Connection, replica: int) -> int:
    """Return how many of the replica's children are in no batch."""
    query = "SELECT count(*) FROM children WHERE replica = ? AND batch = ?"
    return db.execute(query, (replica, NO_BATCH)).fetchone()[0]


def free_lanes(db: sqlite3.Connection, replica: int) -> Iterator[Lane]:
    """Yield the replica's lanes that no child has that has not ended, the lowest first."""
    query = "SELECT lane FROM children WHERE replica = ? AND lane IS NOT NULL AND completion IS NULL"
    taken = {lane for (lane,) in db.execute(query, (replica,))}
    for number in itertools.count():
        if number not in taken:
            yield Lane(replica, number, last_step(db, replica, number))


def last_step(db: sqlite3.Connection, replica: int, lane: int) -> int:
    """Return the number of the last step that the lane's children were given, 0 before the first."""
    query = "SELECT steps_before, job FROM children WHERE replica = ? AND lane = ? ORDER BY id DESC LIMIT 1"
    row = db.execute(query, (replica, lane)).fetchone()
    return row[0] + json.loads(row[1])["count"] if row else 0


def insert_child(
    db: sqlite3.Connection,
    child: Child,
    place: tuple[int, int],
    graph: int | None,
    seed: int,
    now: float,
    sampled_from: tuple[tuple[int, ...] | None, str | None],
) -> None:
    """Insert a child.

    Args:
        db: the ledger.
        child: its id, its proposal and its lane.
        place: its replica and the number of its batch.
        graph: the key of the proposal's graph.
        seed: the child's.
        now: Unix time.
        sampled_from: the versions of the shards that it was sampled from, `None` for its batch's; and the origin,
            `AS_BEFORE` for that of the child before, `None` if it is not recorded.
    """
    proposal, lane = child.proposal, child.lane
    versions, origin = sampled_from
    db.execute(
        "INSERT INTO children (id, replica, batch, lane, steps_before, tokens, graph, architecture_id, log_prob, seed,"
        " state, sampled_at, versions, origin, notes, same_as, job)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'sampled', ?, ?, ?, ?, ?, ?)",
        (
            child.id,
            *place,
            lane and lane.number,
            lane and lane.steps_before,
            json.dumps(proposal.tokens, separators=(",", ":")),
            graph,
            proposal.architecture_id,
            proposal.log_prob,
            seed,
            now,
            None if versions is None else json.dumps(versions),
            origin,
            json.dumps(dict(proposal.notes), allow_nan=False, separators=(",", ":")) if proposal.notes else None,
            proposal.same_as,
            json.dumps(job_to_json(proposal.job), allow_nan=False) if proposal.job else None,
        ),
    )


def end_child(
    db: sqlite3.Connection, child_id: int, now: float, outcome: Outcome, reward: float | None
) -> tuple[Any, ...] | None:
    """Record the child's outcome, and return its row for `records_of`; `None` if it has an outcome already."""
    row = db.execute("SELECT seed FROM children WHERE id = ? AND completion IS NULL", (child_id,)).fetchone()
    if row is None:
        return None
    (seed,) = row
    ended = db.execute(
        "UPDATE children SET state = ?, ended_at = ?, reward = ?, metric = ?, parameters = ?, flops = ?,"
        " seconds = ?, cause = ?, outcome = ?,"
        " batch_size = (SELECT batch_size FROM attempts WHERE child = ? AND verdict = 'outcome'),"
        " completion = (SELECT coalesce(max(completion), 0) + 1 FROM children)"
        f" WHERE id = ? RETURNING {_RETURNED}",
        (
            "failed" if outcome.failure else "finished",
            now,
            reward,
            outcome.metric,
            outcome.parameters,
            outcome.flops,
            outcome.seconds,
            outcome.failure.cause if outcome.failure else None,
            child_text(outcome, seed),
            child_id,
            child_id,
        ),
    ).fetchall()
    # The attempt's own copy was durable before the child had its outcome.
    copied = "child = ? AND verdict = 'outcome' AND outcome IS NOT NULL"
    if db.execute(f"SELECT 1 FROM attempts WHERE {copied}", (child_id,)).fetchone():
        again = f"UPDATE attempts SET outcome = NULL WHERE {copied} AND outcome = ?"
        db.execute(again, (child_id, outcome_text(outcome)))
    return ended[0]


def form_batch(db: sqlite3.Connection, replica: int, number: int, size: int) -> None:
    """Make a batch of the replica's first `size` children that have ended and are in no batch, if there are any.

    The batch has the oldest of their versions, so that no child in it is staler than it says.
    """
    rows = db.execute(
        "SELECT id, versions, sampled_at FROM children WHERE replica = ? AND batch = ? AND completion IS NOT NULL"
        " ORDER BY completion LIMIT ?",
        (replica, NO_BATCH, size),
    ).fetchall()
    if not rows:
        return
    oldest = [min(shard) for shard in zip(*(json.loads(versions) for _, versions, _ in rows), strict=True)]
    db.execute(
        "INSERT INTO batches (replica, number, versions, sampled_at) VALUES (?, ?, ?, ?)",
        (replica, number, json.dumps(oldest), min(sampled_at for *_, sampled_at in rows)),
    )
    db.executemany("UPDATE children SET batch = ? WHERE id = ?", [(number, child_id) for child_id, *_ in rows])


def insert_ended(db: sqlite3.Connection, attempt: EndedAttempt) -> int | None:
    """Insert an attempt that `end_attempts` follows; return its id, `None` if it is known or its child has ended."""
    done = db.execute(
        "INSERT INTO attempts (child, number, worker, slot, batch_size, started_at)"
        " SELECT id, ?, ?, 0, ?, ? FROM children WHERE id = ? AND completion IS NULL"
        " ON CONFLICT (child, number) DO NOTHING",
        (attempt.number, attempt.worker, attempt.batch_size, attempt.started_at, attempt.child_id),
    )
    return done.lastrowid if done.rowcount else None


def end_attempts(
    db: sqlite3.Connection,
    where: str,
    value: object,
    now: float,
    outcome: Outcome | None,
    verdict: Verdict,
    *,
    kept: bool = False,
) -> None:
    """End the attempts that match `where`, which has one parameter, with this outcome and verdict.

    With `kept` the outcome is in the child's row already.
    """
    failure, own = outcome.failure if outcome else None, None if kept or outcome is None else outcome_text(outcome)
    db.execute(
        f"UPDATE attempts SET ended_at = ?, verdict = ?, cause = ?, message = ?, outcome = ? WHERE {where}",
        (now, verdict, failure and failure.cause, failure and failure.message, own, value),
    )


def put(db: sqlite3.Connection, **values: float | str) -> None:
    """Set values of the run."""
    upsert = "INSERT INTO run (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    db.executemany(upsert, values.items())
