"""Rows of the ledger as the objects that the rest of the run knows, and back. Standard library only."""

import json
import sqlite3
from typing import Any

from child_trainer.architecture import Architecture
from child_trainer.outcome import Cause, Outcome
from cluster.records import Attempt, Verdict
from controller.searcher import Child, Proposal

CHILD_COLUMNS = "id, tokens, architecture, log_prob, outcome, reward"
"""What `child_of` takes."""

ATTEMPT_COLUMNS = (
    "child, (SELECT seed FROM children WHERE id = child), coalesce(key, ''), coalesce(slot, 0), worker, batch_size,"
    " started_at, verdict, cause, outcome"
)
"""What `attempt_of` takes."""


def child_of(
    child_id: int, tokens: str, architecture: str, log_prob: float | None, outcome: str | None, reward: float | None
) -> Child:
    """A child from its row."""
    proposal = Proposal(
        tokens=tuple(json.loads(tokens)),
        architecture=Architecture.from_json(json.loads(architecture)),
        log_prob=log_prob,
    )
    ended = Outcome.from_json(json.loads(outcome)) if outcome else None
    return Child(id=child_id, proposal=proposal, outcome=ended, reward=reward)


def attempt_of(*row: Any) -> Attempt:
    """An attempt from its row."""
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
    """An outcome as the ledger keeps it."""
    return json.dumps(outcome.to_json()) if outcome else None


def end_attempts(
    db: sqlite3.Connection, where: str, value: object, now: float, outcome: Outcome | None, verdict: Verdict
) -> None:
    """Close the attempts that `where` names with one `value`, and say what they came to."""
    failure = outcome.failure if outcome else None
    db.execute(
        f"UPDATE attempts SET ended_at = ?, verdict = ?, cause = ?, message = ?, outcome = ? WHERE {where}",
        (now, verdict, failure and failure.cause, failure and failure.message, outcome_text(outcome), value),
    )
