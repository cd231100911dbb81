"""The ledger's rows as objects, and back. Standard library only."""

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Cause, Outcome
from child_trainer.supernets.jobs import Job, job_from_json, job_to_json
from cluster.search.records import Attempt, Verdict
from controller.searcher import Child, ChildRecord, Lane, Proposal

CHILD_COLUMNS = "id, tokens, graph, log_prob, outcome, reward, notes, same_as, job, replica, lane, steps_before"
"""What `child_of` takes."""

RECORD_COLUMNS = "id, tokens, architecture_id, log_prob, outcome, reward, notes, same_as, job"
"""What `record_of` takes."""

ATTEMPT_COLUMNS = (
    "child, (SELECT seed FROM children WHERE id = child), coalesce(key, ''), coalesce(slot, 0), worker, batch_size,"
    " started_at, verdict, cause, outcome"
)
"""What `attempt_of` takes."""

ON_SHARED_WEIGHTS = "(lane IS NOT NULL OR coalesce(json_extract(job, '$.kind') = 'score', 0))"
"""Whether a child's job is on weights that children share: 1 or 0.

Only steps have a lane. Their jobs may be long, with a path for each step, and SQLite reads the whole text for one key.
"""

NO_BATCH = 0
"""The batch number of a child that is in no batch yet; batches count from 1."""


def child_of(*row: Any, get: Callable[[str], Architecture]) -> Child:
    """Return a child from its row; `get` gives the architecture of the graph's key."""
    child_id, tokens, graph, log_prob, outcome, reward, notes, same_as, job, *lane = row
    proposal = Proposal(
        tokens=tuple(json.loads(tokens)),
        architecture=None if graph is None else get(graph),
        log_prob=log_prob,
        notes=json.loads(notes) if notes else {},
        same_as=same_as,
        job=_job_of(job),
    )
    ended = Outcome.from_json(json.loads(outcome)) if outcome else None
    return Child(
        id=child_id, proposal=proposal, outcome=ended, reward=reward, lane=None if lane[1] is None else Lane(*lane)
    )


def record_of(*row: Any) -> ChildRecord:
    """Return what a searcher sees of a child, from the child's row."""
    child_id, tokens, architecture_id, log_prob, outcome, reward, notes, same_as, job = row
    return ChildRecord(
        id=child_id,
        tokens=tuple(json.loads(tokens)),
        architecture_id=architecture_id,
        log_prob=log_prob,
        reward=reward,
        outcome=Outcome.from_json(json.loads(outcome)) if outcome else None,
        notes=json.loads(notes) if notes else {},
        same_as=same_as,
        job=_job_of(job),
    )


def _job_of(text: str | None) -> Job | None:
    return job_from_json(json.loads(text)) if text else None


def attempt_of(*row: Any) -> Attempt:
    """Return an attempt from its row."""
    child_id, seed, key, slot, worker, batch_size, started_at, verdict, cause, outcome = row
    return Attempt(
        child_id=child_id,
        seed=seed,
        key=key,
        slot=slot,
        worker=worker,
        batch_size=batch_size,
        started_at=started_at,
        verdict=Verdict(verdict) if verdict else None,
        cause=Cause(cause) if cause else None,
        outcome=Outcome.from_json(json.loads(outcome)) if outcome else None,
    )


def outcome_text(outcome: Outcome | None) -> str | None:
    """Return an outcome as the ledger stores it."""
    return json.dumps(outcome.to_json()) if outcome else None


def last_batch(db: sqlite3.Connection, replica: int) -> int:
    """Return the number of the replica's last batch, 0 before the first."""
    return db.execute("SELECT coalesce(max(number), 0) FROM batches WHERE replica = ?", (replica,)).fetchone()[0]


def num_unbatched(db: sqlite3.Connection, replica: int) -> int:
    """Return how many of the replica's children are in no batch."""
    query = "SELECT count(*) FROM children WHERE replica = ? AND batch = ?"
    return db.execute(query, (replica, NO_BATCH)).fetchone()[0]


def free_lanes(db: sqlite3.Connection, replica: int) -> Iterator[Lane]:
    """Yield the replica's lanes that no child has that has not ended, the lowest first."""
    query = "SELECT lane FROM children WHERE replica = ? AND lane IS NOT NULL AND state IN ('sampled', 'running')"
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
    graph: str | None,
    seed: int,
    now: float,
    versions: tuple[int, ...] | None,
) -> None:
    """Insert a child.

    Args:
        db: the ledger.
        child: its id, its proposal and its lane.
        place: its replica and the number of its batch.
        graph: the key of the proposal's graph.
        seed: the child's.
        now: Unix time.
        versions: of the shards, that it was sampled from; `None`: its batch's.
    """
    proposal, lane = child.proposal, child.lane
    db.execute(
        "INSERT INTO children (id, replica, batch, lane, steps_before, tokens, graph, architecture_id, log_prob, seed,"
        " state, sampled_at, versions, notes, same_as, job)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'sampled', ?, ?, ?, ?, ?)",
        (
            child.id,
            *place,
            lane and lane.number,
            lane and lane.steps_before,
            json.dumps(proposal.tokens),
            graph,
            proposal.architecture_id,
            proposal.log_prob,
            seed,
            now,
            None if versions is None else json.dumps(versions),
            json.dumps(dict(proposal.notes), allow_nan=False) if proposal.notes else None,
            proposal.same_as,
            json.dumps(job_to_json(proposal.job), allow_nan=False) if proposal.job else None,
        ),
    )


def end_child(db: sqlite3.Connection, child_id: int, now: float, outcome: Outcome, reward: float | None) -> None:
    """Record the child's outcome, unless it has one."""
    db.execute(
        "UPDATE children SET state = ?, ended_at = ?, reward = ?, metric = ?, parameters = ?, flops = ?,"
        " seconds = ?, cause = ?, outcome = ?,"
        " batch_size = (SELECT batch_size FROM attempts WHERE child = ? AND verdict = 'outcome'),"
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
            outcome_text(outcome),
            child_id,
            child_id,
        ),
    )


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


def end_attempts(
    db: sqlite3.Connection, where: str, value: object, now: float, outcome: Outcome | None, verdict: Verdict
) -> None:
    """End the attempts that match `where`, which has one parameter, with this outcome and verdict."""
    failure = outcome.failure if outcome else None
    db.execute(
        f"UPDATE attempts SET ended_at = ?, verdict = ?, cause = ?, message = ?, outcome = ? WHERE {where}",
        (now, verdict, failure and failure.cause, failure and failure.message, outcome_text(outcome), value),
    )


def put(db: sqlite3.Connection, **values: float | str) -> None:
    """Set values of the run."""
    upsert = "INSERT INTO run (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    db.executemany(upsert, values.items())
