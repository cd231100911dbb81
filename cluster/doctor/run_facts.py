"""What a run's folder knows of why it does, or does not, go on: read from any process, while it runs or after."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config.run_config import RunConfig
from cluster.monitoring.status import read_status
from cluster.storage.corrupt_snapshots import corrupt_files, corrupt_texts
from cluster.storage.ledger.queries import doctor
from cluster.storage.ledger.queries.run import run_values
from cluster.storage.ledger.reader import LedgerConnection, reading
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
        run, ended_at = run_values(db), doctor.last_attempt_end(db)
        started = run.get("started_at")
        recent = doctor.last_states(db, RECENT)
        waiting, causes = doctor.num_waiting(db), doctor.attempts_by_cause(db)
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
        recent_failed=(recent.count("failed"), len(recent)),
        last_failure=status.last_failure,
        resume=folder.command("resume"),
        failures=folder.command("failures"),
        error=str(folder.error),
        corrupt=tuple(corrupt_texts(list(corrupt_files(folder.shards)))),
    )


def _open_attempts(db: LedgerConnection, now: float) -> tuple[OpenAttempt, ...]:
    return tuple(
        OpenAttempt(child_id=row.child_id, number=row.number, worker=row.worker, seconds=now - row.started_at)
        for row in doctor.open_attempts(db)
    )


def _typical_seconds(db: LedgerConnection) -> float | None:
    durations = doctor.last_durations(db, 100)
    return statistics.median(durations) if durations else None
