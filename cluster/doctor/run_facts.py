"""Reads from a run's folder why it does, or does not, make progress; works while it runs and afterwards."""

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
"""Number of latest ended children by which a search that only fails is recognised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenAttempt:
    """An attempt in progress: its child and number, its worker, and the seconds since its start.

    Attributes:
        fused: how many attempts are made as one with it, itself included; together they take the time of so many.
    """

    child_id: int
    number: int
    worker: str
    seconds: float
    fused: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """The state of one run, as its folder records it.

    Attributes:
        name, state, message: as in `Status`.
        local: whether it runs in one process, without Ray.
        began: whether the ledger has a start; before that there is only a folder.
        silence_s: seconds since the driver's last heartbeat, `None` before the first.
        stop_requested: whether a stop was requested.
        waiting: sampled children without a worker.
        ended, finished, failed, max_children: as in `Status`.
        workers: number of workers that were placed.
        requested_workers: number that the launch requested; `None` if it left that open.
        open: attempts in progress, the oldest first.
        seconds_left: estimated seconds until the search ends; `None` if they are unknown, or it is not running.
        time_left: the same in words; empty if unknown.
        typical_s: median seconds of the latest finished attempts; `None` before the first.
        idle_s: seconds since a child ended or, before the first, since this start of the run.
        causes: failed attempts by cause.
        recent_failed: failed ones among the last `RECENT` ended children, and the number of those.
        last_failure: message of the latest failure.
        resume, failures: command lines of `nascluster resume` and `nascluster failures`.
        error: path of the file with the full error of a failed run.
        corrupt: a sentence for each shard with a corrupt snapshot in the folder.
        unknown: a clause on what this version does not know of the run; empty if that is nothing.
    """

    name: str
    state: str
    message: str
    local: bool
    began: bool
    silence_s: float | None
    stop_requested: bool
    waiting: int
    ended: int
    finished: int
    failed: int
    max_children: int
    workers: int
    requested_workers: int | None
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
    seconds_left: float | None = None
    time_left: str = ""
    unknown: str = ""


def read_run(folder: RunFolder, config: RunConfig, now: float) -> RunFacts:
    """Read the run's state from its folder at the Unix time `now`.

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
        stop_requested=folder.stop_requested(),
        waiting=waiting,
        ended=status.ended,
        finished=status.finished,
        failed=status.failed,
        max_children=status.max_children,
        workers=status.workers,
        requested_workers=None if config.local else config.topology.workers,
        open=attempts,
        typical_s=typical,
        idle_s=None if latest is None else now - latest,
        causes=causes,
        recent_failed=(recent.count("failed"), len(recent)),
        last_failure=status.last_failure,
        resume=folder.command("resume") + (f" {status.used_up.flag} N" if status.used_up else ""),
        failures=folder.command("failures"),
        error=str(folder.error),
        seconds_left=status.seconds_left,
        time_left=status.time_left,
        unknown=status.unknown_text,
        corrupt=tuple(corrupt_texts(list(corrupt_files(folder)))),
    )


def _open_attempts(db: LedgerConnection, now: float) -> tuple[OpenAttempt, ...]:
    return tuple(
        OpenAttempt(
            child_id=row.child_id,
            number=row.number,
            worker=row.worker,
            seconds=now - row.started_at,
            fused=row.fused,
        )
        for row in doctor.open_attempts(db)
    )


def _typical_seconds(db: LedgerConnection) -> float | None:
    durations = doctor.last_durations(db, 100)
    return statistics.median(durations) if durations else None
