"""What is asked of a ledger about what the search has used, over all of its starts."""

import sqlite3

from cluster.config.ceilings import HOUR_S, Used
from cluster.storage.ledger.queries.report import attempt_seconds
from cluster.storage.ledger.queries.run import run_values
from cluster.storage.ledger.rows import IS_OTHER


def gpu_shares(db: sqlite3.Connection, gpus: float, *, shares_vary: bool = False) -> dict[str, float]:
    """Return the values of the run at a new start, whose children use `gpus` GPUs each; all attempts have ended.

    What earlier starts have used is added up, because their children may have had another share. Those of a version
    that did not record the share count with the new one. Where shares vary, each attempt's is in its row, and the
    share of the start counts nothing; what a worker reserves is kept apart.
    """
    values, seconds = run_values(db), attempt_seconds(db, None)
    since = seconds - values.get("attempt_seconds_before", 0.0)
    used = values.get("gpu_seconds_before", 0.0) + since * values.get("gpus", gpus)
    reserved = {"gpus_reserved": gpus if shares_vary else 0.0} if shares_vary or "gpus_reserved" in values else {}
    each = 0.0 if shares_vary else gpus
    return {"gpus": each, "attempt_seconds_before": seconds, "gpu_seconds_before": used, **reserved}


def used(db: sqlite3.Connection, now: float | None) -> Used:
    """Return what the search has used up to the Unix time `now`; without one, up to its last heartbeat."""
    values = run_values(db)
    if "started_at" not in values:
        return Used(hours=0.0, gpu_hours=0.0)
    until = values["beat_at"] if now is None else now
    # The clock may have been set back since.
    seconds = values.get("seconds_before", 0.0) + max(0.0, until - values["started_at"])
    since = attempt_seconds(db, until) - values.get("attempt_seconds_before", 0.0)
    gpu_seconds = values.get("gpu_seconds_before", 0.0) + since * values.get("gpus", 0.0)
    gpu_seconds += _seconds_by_share(db, until)[1]
    return Used(hours=max(0.0, seconds) / HOUR_S, gpu_hours=max(0.0, gpu_seconds) / HOUR_S)


def gpus_per_child(db: sqlite3.Connection) -> float:
    """Return the GPUs of each child in the run's last start; where shares vary, those that a worker reserves."""
    values = run_values(db)
    return values.get("gpus_reserved") or values.get("gpus", 0.0)


def mean_gpu_share(db: sqlite3.Connection, now: float | None) -> float | None:
    """Return the mean part of a GPU of the attempts that have one of their own, by time; `None` if none has any."""
    seconds, gpu_seconds = _seconds_by_share(db, now)
    return gpu_seconds / seconds if seconds else None


def memory_uses(db: sqlite3.Connection) -> tuple[tuple[int, int], ...]:
    """Return what trainings that ended well were predicted to take of a GPU's memory and what they took, in bytes."""
    query = """
    SELECT gpu_bytes, json_extract(outcome, '$.gpu_bytes') AS used FROM (
        SELECT attempts.gpu_bytes, coalesce(attempts.outcome, children.outcome) AS outcome
        FROM attempts JOIN children ON children.id = attempts.child
        WHERE gpu_share IS NOT NULL AND gpu_bytes > 0 AND verdict = 'outcome' AND attempts.cause IS NULL
    ) WHERE used > 0
    """
    return tuple(db.execute(query))


def _seconds_by_share(db: sqlite3.Connection, now: float | None) -> tuple[float, float]:
    """Return the seconds of the attempts that have a share of their own, and their GPU seconds."""
    end = "coalesce(ended_at, ?, started_at)"
    query = f"""
    SELECT total(max(0, {end} - started_at)), total(gpu_share * max(0, {end} - started_at))
    FROM attempts WHERE gpu_share IS NOT NULL AND (ended_at IS NOT NULL OR NOT {IS_OTHER})
    """
    return db.execute(query, (now, now)).fetchone()
