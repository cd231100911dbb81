"""What is asked of a ledger about what the search has used, over all of its starts."""

import sqlite3

from cluster.config.ceilings import HOUR_S, Used
from cluster.storage.ledger.queries.report import attempt_seconds
from cluster.storage.ledger.queries.run import run_values


def gpu_shares(db: sqlite3.Connection, gpus: float) -> dict[str, float]:
    """Return the values of the run at a new start, whose children use `gpus` GPUs each; all attempts have ended.

    What earlier starts have used is added up, because their children may have had another share. Those of a version
    that did not record the share count with the new one.
    """
    values, seconds = run_values(db), attempt_seconds(db, None)
    since = seconds - values.get("attempt_seconds_before", 0.0)
    used = values.get("gpu_seconds_before", 0.0) + since * values.get("gpus", gpus)
    return {"gpus": gpus, "attempt_seconds_before": seconds, "gpu_seconds_before": used}


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
    return Used(hours=max(0.0, seconds) / HOUR_S, gpu_hours=max(0.0, gpu_seconds) / HOUR_S)


def gpus_per_child(db: sqlite3.Connection) -> float:
    """Return the GPUs of each child in the run's last start."""
    return run_values(db).get("gpus", 0.0)
