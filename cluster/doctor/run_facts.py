"""What a run's folder knows of why it does, or does not, go on: read from any process, while it runs or after."""

import sqlite3
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config.run_config import RunConfig
from cluster.monitoring.status import read_status
from cluster.storage.corrupt_snapshots import corrupt_files, corrupt_texts
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

RECENT = 32
"""Children that ended last, by which it is judged whether the search only fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenAttempt:
    """An attempt that has begun and not ended: whose, at which worker, and for how many seconds so far."""

    child_id: int
    number: int
    worker: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """One run.

    Attributes:
        name, state, message: as in `Status`.
        local: it runs in one process, without Ray.
        began: the ledger knows a start; before that there is only a folder.
        silence_s: seconds since the driver's last sign of life, `None` before the first.
        stop_asked: somebody has asked it to stop.
        waiting: children that were sampled and wait for a worker.
        ended, finished, failed, max_children: as in `Status`.
        workers: how many have a place.
        asked: how many the launch asked for; `None` where it left that open.
        open: attempts that have not ended, the oldest first.
        typical_s: median seconds of the attempts that ended last; `None` before the first.
        idle_s: seconds since a child ended or, before the first, since this start.
        causes: failed attempts by cause.
        recent_failed: how many of the last `RECENT` ended children failed, and of how many.
        last_failure: what the last one had to say.
        resume, failures: command lines.
        error: the file with the whole error of a run that failed.
        corrupt: a sentence for each shard of which a corrupt snapshot lies in the folder.
    """

    name: str
    state: str
    message: str
    local: bool
    began: bool
    silence_s: float | None
    stop_asked: bool
    waiting: int
    ended: int
    finished: int
    failed: int
    max_children: int
    workers: int
    asked: int | None
    open: tuple[OpenAttempt, ...]
    typical_s: float | None
    idle_s: float | None
    causes: Mapping[str, int]
    recent_failed: tuple[int, int]
    last_failure: str | None
    resume: str
    failures: str
    error: str
    corrupt: tuple[str, ...] = ()


def read_run(folder: RunFolder, config: RunConfig, now: float) -> RunFacts:
    """What the run's folder knows at the Unix time `now`.

    Raises:
        RunFolderError: the ledger is damaged.
    """
    status = read_status(folder, now)
    with reading(folder) as db:
        run = dict(db.execute("SELECT key, value FROM run"))
        started = run.get("started_at")
        (ended_at,) = db.execute("SELECT max(ended_at) FROM attempts WHERE verdict IS NOT NULL").fetchone()
        recent = db.execute(
            "SELECT state FROM children WHERE completion IS NOT NULL ORDER BY completion DESC LIMIT ?", (RECENT,)
        ).fetchall()
        waiting = db.execute("SELECT count(*) FROM children WHERE state = 'sampled'").fetchone()[0]
        causes = dict(
            db.execute("SELECT cause, count(*) FROM attempts WHERE cause IS NOT NULL GROUP BY cause").fetchall()
        )
        attempts, typical = _open_attempts(db, now), _typical_seconds(db)
    latest = max((moment for moment in (started, ended_at) if moment is not None), default=None)
    return RunFacts(
        name=status.name,
        state=status.state,
        message=status.message,
        local=config.local,
        began="state" in run,
        silence_s=now - run["beat_at"] if "beat_at" in run else None,
        stop_asked=folder.stop_requested(),
        waiting=waiting,
        ended=status.ended,
        finished=status.finished,
        failed=status.failed,
        max_children=status.max_children,
        workers=status.workers,
        asked=None if config.local else config.topology.workers,
        open=attempts,
        typical_s=typical,
        idle_s=None if latest is None else now - latest,
        causes=causes,
        recent_failed=(sum(state == "failed" for (state,) in recent), len(recent)),
        last_failure=status.last_failure,
        resume=folder.command("resume"),
        failures=folder.command("failures"),
        error=str(folder.error),
        corrupt=tuple(corrupt_texts(list(corrupt_files(folder.shards)))),
    )


def _open_attempts(db: sqlite3.Connection, now: float) -> tuple[OpenAttempt, ...]:
    rows = db.execute(
        "SELECT child, number, worker, started_at FROM attempts WHERE ended_at IS NULL ORDER BY started_at"
    )
    return tuple(
        OpenAttempt(child_id=child, number=number, worker=worker, seconds=now - started_at)
        for child, number, worker, started_at in rows
    )


def _typical_seconds(db: sqlite3.Connection) -> float | None:
    rows = db.execute(
        "SELECT ended_at - started_at FROM attempts WHERE verdict = 'outcome' ORDER BY ended_at DESC LIMIT 100"
    ).fetchall()
    return statistics.median(seconds for (seconds,) in rows) if rows else None
