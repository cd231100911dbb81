"""A run's state, read from its folder: while it runs, or after, and from any process. Imports no torch."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Measure
from cluster.config.run_config import RunConfig
from cluster.formatting import last_line
from cluster.storage.ledger.graphs import architecture_of
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

FIRST = 16
"""Children at the start of a run that its best is compared with, and at the end that its recent reward is taken of."""

RECORD_GONE = "it had begun, but its ledger is missing or empty"
"""What is wrong with a run whose ledger does not know of the start that other files tell of."""

BEST_COLUMNS = (
    "id, reward, metric, parameters, flops, seconds, seed, batch_size,"
    " (SELECT architectures.graph FROM architectures WHERE digest = children.graph)"
)
"""What `Best.of` takes."""

BEST_NUMBERS = ("child_id", "reward", "metric", "parameters", "flops", "seconds", "seed", "batch_size")


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The child with the highest reward; `batch_size` is `None` where it is the budget's."""

    child_id: int
    reward: float
    metric: float
    parameters: int | None
    flops: int | None
    seconds: float
    seed: int
    batch_size: int | None
    architecture: Architecture

    @staticmethod
    def of(*row: Any) -> "Best":
        """A child from its row."""
        *numbers, architecture = row
        fields = dict(zip(BEST_NUMBERS, numbers, strict=True))
        return Best(**fields, architecture=architecture_of(architecture))

    def to_json(self) -> dict[str, Any]:
        """Plain data, the architecture apart."""
        return {name: getattr(self, name) for name in BEST_NUMBERS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What a run has done so far.

    Attributes:
        name: the run's name.
        state: `running`, `finished`, `stopped` or `failed`.
        message: why it stopped or failed, if there is something to say.
        sampled: children recorded, whatever became of them.
        running: children that a worker has begun and whose outcome is not recorded yet.
        finished, failed: children that ended with a metric, and without.
        causes: how many failed of what.
        retried: attempts that failed and were followed by another, by cause; preemptions are among them.
        last_failure: what the child that failed last had to say, in a line; `None` if none failed.
        max_children: where the search ends.
        updates: pushes applied.
        shards, replicas, workers: how many there are.
        mean_reward: over all ended children, failed ones included; `None` before the first.
        recent_reward: the same over the last `FIRST`.
        measure: what the children's metric is.
        first_metric: mean validation metric of the first `FIRST` children that finished.
        figures: the searcher's own numbers, as of the last batch learnt from: `baseline`, `entropy`, ...
        staleness: mean and largest staleness of the pushes so far, in versions; `None` before the first.
        seconds: how long the run has run, pauses between a stop and a resume apart.
        pace: children that end in a second, since the first child of this start began; `None` before one ended.
        best: the best child, or `None` before one finished.
    """

    name: str
    state: str
    message: str
    sampled: int
    running: int
    finished: int
    failed: int
    causes: dict[str, int]
    retried: dict[str, int]
    last_failure: str | None
    max_children: int
    updates: int
    shards: int
    replicas: int
    workers: int
    mean_reward: float | None
    recent_reward: float | None
    measure: Measure
    first_metric: float | None
    figures: dict[str, float]
    staleness: tuple[float, int] | None
    seconds: float
    pace: float | None
    best: Best | None

    @property
    def ended(self) -> int:
        """Children that ended, with a metric or without."""
        return self.finished + self.failed

    @property
    def busy(self) -> int:
        """Workers that train a child now."""
        return min(self.running, self.workers)

    @property
    def seconds_left(self) -> float | None:
        """Time to the last child at the pace so far."""
        return (self.max_children - self.ended) / self.pace if self.pace else None

    def to_json(self) -> dict[str, Any]:
        """The object that `nascluster status --json` prints."""
        staleness = self.staleness and {"mean": self.staleness[0], "max": self.staleness[1]}
        return {
            "name": self.name,
            "state": self.state,
            "message": self.message,
            "children": {
                "sampled": self.sampled,
                "running": self.running,
                "finished": self.finished,
                "failed": self.failed,
                "max": self.max_children,
            },
            "failures": self.causes,
            "retries": self.retried,
            "updates": self.updates,
            "shards": self.shards,
            "replicas": self.replicas,
            "workers": self.workers,
            "reward": {"mean": self.mean_reward, "recent": self.recent_reward, **self.figures},
            "staleness": staleness,
            "measure": str(self.measure),
            "best": self.best and self.best.to_json(),
            "seconds": round(self.seconds, 3),
        }


def read_status(folder: RunFolder, now: float) -> Status:
    """The run's state at the Unix time `now`.

    Raises:
        RunFolderError: the configuration or the ledger is damaged.
    """
    config, held = folder.read_config(), folder.is_held()
    with reading(folder) as db:
        return _status(db, folder, config, held, now)


def _status(db: sqlite3.Connection, folder: RunFolder, config: RunConfig, held: bool, now: float) -> Status:
    run = dict(db.execute("SELECT key, value FROM run"))
    children = dict(db.execute("SELECT state, count(*) FROM children GROUP BY state"))
    rewards = "SELECT avg(reward) FROM (SELECT reward FROM children WHERE completion IS NOT NULL"
    state, message, alive = _liveness(run, held, now, folder.had_begun)
    return Status(
        name=folder.name,
        state=state,
        message=message,
        sampled=sum(children.values()),
        running=children.get("running", 0) if state == "running" else 0,
        finished=children.get("finished", 0),
        failed=children.get("failed", 0),
        causes=dict(db.execute("SELECT cause, count(*) FROM children WHERE state = 'failed' GROUP BY cause")),
        retried=dict(
            db.execute(
                "SELECT cause, count(*) FROM attempts WHERE cause IS NOT NULL AND verdict <> 'outcome' GROUP BY cause"
            )
        ),
        last_failure=_last_failure(db),
        max_children=config.max_children,
        updates=_value(db, "SELECT count(*) FROM batches WHERE pushed = 1"),
        shards=config.topology.shards,
        replicas=config.topology.replicas,
        workers=run.get("workers", 0),
        mean_reward=_value(db, f"{rewards})"),
        recent_reward=_value(db, f"{rewards} ORDER BY completion DESC LIMIT {FIRST})"),
        measure=config.measure,
        first_metric=_value(
            db,
            "SELECT avg(metric) FROM"
            f" (SELECT metric FROM children WHERE state = 'finished' ORDER BY completion LIMIT {FIRST})",
        ),
        figures=json.loads(_value(db, "SELECT figures FROM batches ORDER BY learned_at DESC LIMIT 1") or "{}"),
        staleness=_staleness(db),
        seconds=run.get("seconds_before", 0.0) + alive,
        pace=_pace(db, run.get("started_at", now), now),
        best=_best(db),
    )


def _liveness(run: dict[str, Any], held: bool, now: float, had_begun: Callable[[], bool]) -> tuple[str, str, float]:
    """The state, a word on it, and the seconds that the last start has lasted."""
    if "state" not in run:
        if not held and had_begun():
            return "failed", RECORD_GONE, 0.0
        return ("running", "starting", 0.0) if held else ("failed", "its driver died before it began", 0.0)
    if run["state"] != "running":
        return run["state"], run["message"], run["beat_at"] - run.get("started_at", run["beat_at"])
    if not held:
        return "failed", "its driver died", run["beat_at"] - run["started_at"]
    return "running", "", now - run["started_at"]


def _value(db: sqlite3.Connection, query: str) -> Any:
    row = db.execute(query).fetchone()
    return row[0] if row else None


def _staleness(db: sqlite3.Connection) -> tuple[float, int] | None:
    mean, largest = db.execute(
        "SELECT avg(s.value), max(s.value) FROM batches, json_each(batches.staleness) AS s WHERE pushed = 1"
    ).fetchone()
    return None if mean is None else (mean, largest)


def _last_failure(db: sqlite3.Connection) -> str | None:
    row = db.execute(
        "SELECT id, outcome FROM children WHERE state = 'failed' ORDER BY completion DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    failure = json.loads(row[1])["failure"]
    return f"child {row[0]}, {failure['cause']}: {last_line(failure['message'])}"


def _pace(db: sqlite3.Connection, started_at: float, now: float) -> float | None:
    first, ended = db.execute(
        "SELECT min(started_at), count(ended_at) FROM attempts WHERE started_at >= ?", (started_at,)
    ).fetchone()
    return ended / (now - first) if ended and now > first else None


def _best(db: sqlite3.Connection) -> Best | None:
    row = db.execute(
        f"SELECT {BEST_COLUMNS} FROM children WHERE state = 'finished' ORDER BY reward DESC, id LIMIT 1"
    ).fetchone()
    return Best.of(*row) if row else None
