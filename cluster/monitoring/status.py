"""A run's state, read from its folder: while it runs, or after, and from any process. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Measure
from cluster.config.run_config import RunConfig
from cluster.formatting import last_line
from cluster.storage.ledger.queries import status as queries
from cluster.storage.ledger.queries.run import run_values
from cluster.storage.ledger.queries.status import BestChild
from cluster.storage.ledger.reader import LedgerConnection, reading
from cluster.storage.run_folder import RunFolder
from controller.catalogue import Figure

FIRST = 16
"""Children at the start of a run that its best is compared with, and at the end that its recent reward is taken of."""

RECORD_GONE = "it had begun, but its ledger is missing or empty"
"""What is wrong with a run whose ledger does not know of the start that other files tell of."""

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
    def of(row: BestChild) -> "Best":
        """A child from its row."""
        return Best(**row._asdict())

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
        listed: the figures that the searcher lists, in its order, with their words and units.
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
    listed: tuple[Figure, ...]
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


def _status(db: LedgerConnection, folder: RunFolder, config: RunConfig, held: bool, now: float) -> Status:
    run, children, best = run_values(db), queries.children_by_state(db), queries.best(db)
    state, message, alive = _liveness(run, held, now, folder.had_begun)
    return Status(
        name=folder.name,
        state=state,
        message=message,
        sampled=sum(children.values()),
        running=children.get("running", 0) if state == "running" else 0,
        finished=children.get("finished", 0),
        failed=children.get("failed", 0),
        causes=queries.failed_children_by_cause(db),
        retried=queries.retried_attempts_by_cause(db),
        last_failure=_last_failure(db),
        max_children=config.max_children,
        updates=queries.num_updates(db),
        shards=config.topology.shards,
        replicas=config.topology.replicas,
        workers=run.get("workers", 0),
        mean_reward=queries.mean_reward(db),
        recent_reward=queries.mean_reward(db, last=FIRST),
        measure=config.measure,
        first_metric=queries.first_mean_metric(db, FIRST),
        figures=queries.newest_figures(db),
        listed=config.searcher_entry.figures,
        staleness=queries.staleness(db),
        seconds=run.get("seconds_before", 0.0) + alive,
        pace=_pace(db, run.get("started_at", now), now),
        best=Best.of(best) if best else None,
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


def _last_failure(db: LedgerConnection) -> str | None:
    failed = queries.last_failed_child(db)
    return failed and f"child {failed.child_id}, {failed.cause}: {last_line(failed.message)}"


def _pace(db: LedgerConnection, started_at: float, now: float) -> float | None:
    first, ended = queries.attempts_since(db, started_at)
    return ended / (now - first) if ended and first is not None and now > first else None
