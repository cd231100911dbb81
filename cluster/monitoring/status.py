"""A run's status, read from its folder by any process, during the run or after it. Imports no torch."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from child_trainer.outcome import Measure
from cluster.config.ceilings import HOUR_S, NO_CEILINGS, Ceiling, CeilingOptions, Used, ceilings_of, cost_of, used_up
from cluster.config.known_config import KnownConfig, unknown_text
from cluster.config.run_checks import MAX_CHILDREN
from cluster.formatting import duration, last_line
from cluster.monitoring.front import Front, RunFront
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries import status as queries
from cluster.storage.ledger.queries import usage
from cluster.storage.ledger.queries.continued import Continued, continued
from cluster.storage.ledger.queries.doctor import last_durations, open_attempts
from cluster.storage.ledger.queries.final_tests import FinalTest, final_tests
from cluster.storage.ledger.queries.run import run_values
from cluster.storage.ledger.queries.status import Best, StoppedEarly
from cluster.storage.ledger.queries.supernet import SupernetTraining, supernet_training
from cluster.storage.ledger.reader import LedgerConnection, newer_version, reading
from cluster.storage.ledger.totals import staleness
from cluster.storage.run_folder import RunFolder
from controller.catalogue import Figure

FIRST = 16
"""Number of first children that the best is compared with, and of last children that the recent reward covers."""

MIN_AGE_S = 60.0
"""Seconds after which a child in training that has not ended says how long children take at least."""

RECORD_GONE = "it had begun, but its ledger is missing or empty"
"""The message of a run whose ledger lacks a start that other files record."""


DRIVER_DIED, DIED_STARTING = "its driver died", "its driver died before the search began"
"""The messages of a run whose driver has recorded no end."""

INTERRUPTED = "interrupted"
"""The message of a run that Ctrl-C has stopped, or a signal that asks the driver to end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What a run has done so far.

    Attributes:
        name: the run's name.
        state: `running`, `finished`, `stopped` or `failed`.
        message: why it stopped or failed; may be empty.
        sampled: children recorded, in any state.
        running: children that a worker has started and whose outcome is not recorded yet.
        finished, failed: children that ended with a metric, and without one.
        causes: failed children by cause.
        retried: failed attempts that were followed by another, by cause; includes preemptions.
        last_failure: the error of the child that failed last, in one line; `None` if none failed.
        max_children: number of children after which the search ends.
        updates: pushes with gradients that were applied.
        shards, replicas, workers: the number of each.
        mean_reward: mean over all ended children, including failed ones; `None` before the first.
        recent_reward: mean over the last `FIRST` ended children.
        measure: the kind of metric that children have.
        first_metric: mean metric of the first `FIRST` children that have one.
        first_measured: how many these are so far.
        figures: the searcher's own numbers after the last learned batch: `baseline`, `entropy`, ...
        listed: the figures that the searcher lists, in its order, with their words and units.
        staleness: mean and largest staleness of the pushes so far, in versions; `None` before the first.
        seconds: how long the run has run, without pauses between a stop and a resume.
        pace: children that end per second in this start, as measured; `None` before one ended.
        child_seconds: seconds of a child as the launch estimated them; `None` if it could not.
        oldest_seconds: how long the oldest child has been in training; `None` if none is.
        best: the best child, or `None` before one finished.
        supernet: the training of the weights that children share, with means over the last `FIRST` children that made
            steps or were scored; `None` before the first steps.
        ceilings: what the whole search may use.
        used: what it has used in all of its starts; `None` if it has no ceilings.
        run_front: reads `front`; `None` if the run has one objective only.
        stopped: the children that were stopped early; `None` if the run stops none.
        epochs: of a child that is not stopped early.
        tests: the looks at the test data, if it is a run of final trainings.
        continues: the runs that it goes on from, each beginning where the one before it ends.
        unknown: what this version of nascluster does not know of the run, a clause each.
        fused: children in training whose worker trains another one with them as one network.
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
    first_measured: int
    figures: dict[str, float]
    listed: tuple[Figure, ...]
    staleness: tuple[float, int] | None
    seconds: float
    pace: float | None
    child_seconds: float | None
    oldest_seconds: float | None
    best: Best | None
    supernet: SupernetTraining | None = None
    ceilings: CeilingOptions = NO_CEILINGS
    used: Used | None = None
    run_front: RunFront | None = None
    stopped: StoppedEarly | None = None
    epochs: int = 0
    tests: tuple[FinalTest, ...] = ()
    continues: tuple[Continued, ...] = ()
    unknown: tuple[str, ...] = ()
    fused: int = 0

    @property
    def ended(self) -> int:
        """Children that ended, with or without a metric."""
        return self.finished + self.failed

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C, or a signal that asks the driver to end, has stopped the run."""
        return self.state == "stopped" and self.message == INTERRUPTED

    @property
    def unexplained(self) -> bool:
        """Whether the run has failed, and its driver could not record why."""
        return self.state == "failed" and self.message in (DRIVER_DIED, DIED_STARTING)

    @property
    def unknown_text(self) -> str:
        """A clause on what this version does not know of the run; empty if that is nothing."""
        return unknown_text(self.unknown) if self.unknown else ""

    @property
    def front(self) -> Front | None:
        """The Pareto front of the run's objectives, read at the first call; `None` if it has one objective only."""
        return None if self.run_front is None else self.run_front.value

    @property
    def ceiling_list(self) -> tuple[Ceiling, ...]:
        """The ceilings of the search, with what is used of each."""
        return () if self.used is None else tuple(ceilings_of(self.ceilings, self.used))

    @property
    def used_up(self) -> Ceiling | None:
        """The ceiling that is used up, if one is."""
        return None if self.used is None else used_up(self.ceilings, self.used)

    @property
    def epochs_saved(self) -> int:
        """Epochs that children were not trained because they were stopped early."""
        return self.stopped.children * self.epochs - self.stopped.epochs if self.stopped else 0

    @property
    def busy(self) -> int:
        """Workers that are training a child."""
        return min(max(0, self.running - self.fused), self.workers)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the last child ends, at the pace so far, or by the estimates before one ended.

        They are no more than the search may still run.
        """
        seconds = self._seconds_to_last_child if self.state == "running" else None
        if seconds is None or self.used is None or self.ceilings.max_hours is None:
            return seconds
        return min(seconds, max(0.0, self.ceilings.max_hours - self.used.hours) * HOUR_S)

    @property
    def _seconds_to_last_child(self) -> float | None:
        if self.max_children == MAX_CHILDREN:  # something else ends the search, such as the budget of a survey
            return None
        to_go, child_s = max(0, self.max_children - self.ended), max(self.child_seconds or 0.0, self._least_seconds)
        if self.pace:
            return to_go / self.pace
        return to_go * child_s / self.workers if child_s and self.workers else None

    @property
    def _least_seconds(self) -> float:
        """Seconds that a child takes at least, as the oldest one shows; 0 while it says little."""
        age = self.oldest_seconds or 0.0
        return age if age >= MIN_AGE_S else 0.0

    @property
    def time_left(self) -> str:
        """How long the search still takes, in words, with what that is known from; empty if it is not known."""
        if self.seconds_left is None:
            return ""
        left = duration(self.seconds_left)
        if self.pace:
            return f"about {left} left"
        if (self.child_seconds or 0.0) >= self._least_seconds:
            return f"about {left} left (a rough estimate: no child has ended yet)"
        return f"more than {left} left (no child has ended yet)"

    def to_json(self) -> dict[str, Any]:
        """Return the object that `nascluster status --json` prints."""
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
            **({"pareto": front.to_json()} if (front := self.front) else {}),
            **({"tests": [asdict(test) for test in self.tests]} if self.tests else {}),
            **({"stopped": self._stopped_json(self.stopped)} if self.stopped else {}),
            **({"ceilings": self._ceilings_json()} if self.used else {}),
            **({"supernet": self.supernet._asdict()} if self.supernet else {}),
            **({"continues": [one.to_json() for one in self.continues]} if self.continues else {}),
            "seconds": round(self.seconds, 3),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 3),
            "unknown": list(self.unknown),
        }

    def _stopped_json(self, stopped: StoppedEarly) -> dict[str, int]:
        return {"children": stopped.children, "epochs_saved": self.epochs_saved}

    def _ceilings_json(self) -> dict[str, Any]:
        assert self.used is not None
        priced = self.ceilings.cost_per_gpu_hour is not None
        cost = {"cost": cost_of(self.ceilings, self.used)} if priced else {}
        return vars(self.ceilings) | {"used": {"hours": self.used.hours, "gpu_hours": self.used.gpu_hours, **cost}}


def read_used(folder: RunFolder, now: float) -> Used:
    """Return what a run has used in all of its starts, up to the Unix time `now` if it is running.

    Raises:
        RunFolderError: the ledger is damaged.
    """
    held = folder.is_held()
    with reading(folder) as db:
        return usage.used(db, now if held and run_values(db).get("state") == "running" else None)


def read_status(folder: RunFolder, now: float) -> Status:
    """Read the run's status at the Unix time `now`.

    Raises:
        RunFolderError: the configuration or the ledger is damaged.
    """
    known, held = folder.read_known(), folder.is_held()
    with reading(folder) as db:
        return _status(db, folder, known, held, now)


def _status(db: LedgerConnection, folder: RunFolder, known: KnownConfig, held: bool, now: float) -> Status:
    config, newer = known.config, newer_version(db)
    run, children = run_values(db), queries.children_by_state(db)
    measure = config.measure if known.knows_task else recorded_measure(db)
    costs = config.objectives.costs
    state, message, alive = liveness(run, held, now, folder.had_begun)
    first_metric, first_measured = queries.first_mean_metric(db, FIRST)
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
        recent_reward=queries.recent_reward(db, FIRST),
        measure=measure,
        first_metric=first_metric,
        first_measured=first_measured,
        figures=queries.newest_figures(db),
        listed=config.searcher_entry.figures,
        staleness=staleness(db),
        seconds=run.get("seconds_before", 0.0) + alive,
        pace=_pace(db, run.get("started_at", now), run.get("workers", 0), now),
        child_seconds=_child_seconds(folder),
        oldest_seconds=max(_open_seconds(db, run.get("started_at", now), now), default=None),
        fused=queries.num_fused(db),
        best=queries.best(db),
        supernet=supernet_training(db, FIRST),
        ceilings=config.ceilings,
        used=usage.used(db, now if state == "running" else None) if config.ceilings.any else None,
        run_front=RunFront(folder=folder, measure=measure, costs=costs) if costs else None,
        stopped=queries.stopped_early(db) if config.stopping.early_stop else None,
        epochs=config.budget.epochs,
        tests=tuple(final_tests(db).values()),
        continues=continued(db),
        unknown=(*known.unknown, *([newer] if newer else [])),
    )


def recorded_measure(db: LedgerConnection) -> Measure:
    """Return the measure of a task that this version does not know, from the children's outcomes."""
    try:
        return Measure(queries.metric_kind(db) or Measure.SCORE)
    except ValueError:  # this version does not know the measure, either
        return Measure.SCORE


def read_unknown(folder: RunFolder) -> tuple[str, ...]:
    """Return what this version does not know of a run, a clause each, for readers that need no configuration."""
    try:
        unknown = folder.read_known().unknown
    except RunFolderError as error:
        unknown = (f"its configuration ({error})",)
    with reading(folder) as db:
        newer = newer_version(db)
    return (*unknown, *([newer] if newer else []))


def liveness(run: dict[str, Any], held: bool, now: float, had_begun: Callable[[], bool]) -> tuple[str, str, float]:
    """Return the state, its message, and the duration of the last start in seconds."""
    if "state" not in run:
        if not held and had_begun():
            return "failed", RECORD_GONE, 0.0
        return ("running", "starting", 0.0) if held else ("failed", DIED_STARTING, 0.0)
    if run["state"] != "running":
        return run["state"], run["message"], max(0.0, run["beat_at"] - run.get("started_at", run["beat_at"]))
    if not held:
        return "failed", DRIVER_DIED, max(0.0, run["beat_at"] - run["started_at"])
    return "running", "", max(0.0, now - run["started_at"])


def _last_failure(db: LedgerConnection) -> str | None:
    failed = queries.last_failed_child(db)
    return failed and f"child {failed.child_id}, {failed.cause}: {last_line(failed.message)}"


def _pace(db: LedgerConnection, started_at: float, workers: int, now: float) -> float | None:
    """Return how many children end per second.

    While fewer have ended than there are workers, the others are about to end as well: then each worker's share is one
    child in the mean time that the children took so far.
    """
    first, ended = queries.attempts_of_start(db)
    if not ended or first is None or now <= first:
        return None
    if ended >= workers:
        return ended / (now - first)
    seconds = [*last_durations(db, ended), *_open_seconds(db, started_at, now)]
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    return workers / mean if mean > 0 else ended / (now - first)


def _open_seconds(db: LedgerConnection, started_at: float, now: float) -> list[float]:
    """Return how long the children have been in training that this start of the run has begun.

    Of those that are trained as one each has its share, as in the durations of those that have ended.
    """
    return [(now - one.started_at) / one.fused for one in open_attempts(db) if one.started_at >= started_at]


def _child_seconds(folder: RunFolder) -> float | None:
    """Return the launch's estimate of a child's seconds, if there is a file with a usable one."""
    try:
        seconds = float(json.loads(folder.estimate.read_text())["child_seconds"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return seconds if 0 < seconds < math.inf else None
