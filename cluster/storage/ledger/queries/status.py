"""What `status`, `best` and the live view ask of a ledger."""

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import LATENCY, Measure, Stopped
from cluster.storage.ledger.graphs import unpack
from cluster.storage.ledger.queries.final_tests import TEST_KEY
from cluster.storage.ledger.queries.run import finite_figures, last_attempt, last_completion, run_values
from cluster.storage.ledger.rows import IS_OTHER, ON_SHARED_WEIGHTS
from cluster.storage.ledger.totals import MEASURED, totals

BEST_COLUMNS = (
    "id, reward, metric, parameters, flops, seconds, seed, batch_size,"
    " iif(json_extract(outcome, '$.gpu_bytes') IS NULL, 'cpu', 'cuda'), json_extract(outcome, '$.processor'),"
    " json_extract(notes, '$.parent'), json_extract(notes, '$.change'), same_as,"
    f" json_extract(notes, '$.source'), {ON_SHARED_WEIGHTS}, tokens,"
    " (SELECT architectures.graph FROM architectures WHERE graph_id = children.graph),"
    " json_extract(outcome, '$.weights'), json_extract(job, '$.kind') IS 'train-on',"
    f" json_extract(outcome, '$.measurements.{LATENCY}'),"
    f" (SELECT json_extract(value, '$.metric') FROM run WHERE key = '{TEST_KEY}' || children.id),"
    " json_extract(outcome, '$.stopped'), completion"
)
"""What `best_child` takes."""


@dataclass(frozen=True, slots=True)
class Best:
    """The child with the highest reward.

    Attributes:
        child_id, reward, metric, parameters, flops, seconds, seed: of the child.
        batch_size: that it was trained with; `None` where it is the budget's.
        device: that it was trained on, as PyTorch names it.
        processor: the kind of processor that trained it; `None` where that is not recorded.
        parent: the child that it came from, for searchers whose children have parents.
        change: what was changed in that, in a few words.
        same_as: the child whose outcome it took; `None` if it was trained itself.
        source: where its architecture is from, if that is another run.
        tokens: the decisions behind it.
        graph: its architecture as plain data.
        scored: whether it was scored with shared weights, and not trained.
        weights: the checksum of its weights after the training, if they were kept.
        inherits: whether its training began with another child's weights.
        latency_ms: the ms that its network takes for one image, where that was measured or is in the task's table.
        test: its metric on the test data, if it has been tested as a network that is finished.
        stopped: why its training was stopped early; `None` if it was not.
        completion: 1 for the child that ended first.
    """

    child_id: int
    reward: float | None
    metric: float
    parameters: int | None
    flops: int | None
    seconds: float
    seed: int
    batch_size: int | None
    device: str
    processor: str | None
    parent: int | None
    change: str | None
    same_as: int | None
    source: str | None
    tokens: tuple[int, ...]
    graph: Mapping[str, Any] = field(hash=False)
    scored: bool = False
    weights: str | None = None
    inherits: bool = False
    latency_ms: float | None = None
    test: float | None = None
    stopped: Stopped | None = None
    completion: int = 0

    @property
    def architecture(self) -> Architecture:
        """Its architecture.

        Raises:
            InvalidArchitecture: this version does not know an operation of it.
        """
        return Architecture.from_json(self.graph)

    @property
    def origin(self) -> str:
        """Where it came from, as a clause; empty if the searcher does not say."""
        texts = (
            f"from child {self.parent}" + (f" ({self.change})" if self.change else "") if self.parent else "",
            f"with the outcome of child {self.same_as}, which has the same architecture" if self.same_as else "",
            f"from {self.source}" if self.source else "",
        )
        return ", ".join(text for text in texts if text)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without the architecture and the tokens that it was decoded from."""
        optional = ("scored", "source", "weights", "inherits", "latency_ms")
        left_out = {"graph", "tokens", "stopped", "completion"} | {name for name in optional if not getattr(self, name)}
        if self.test is None:
            left_out.add("test")
        stopped = {"stopped": asdict(self.stopped)} if self.stopped else {}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out} | stopped


class FailedChild(NamedTuple):
    """A child that failed, and why."""

    child_id: int
    cause: str
    message: str


class StoppedEarly(NamedTuple):
    """How many children were stopped before their last epoch, and how many epochs they were trained."""

    children: int
    epochs: int


class Attempts(NamedTuple):
    """The Unix time at which the first of some attempts began, if there is one, and how many of them have ended."""

    first_started_at: float | None
    ended: int


def best_child(*row: Any) -> Best:
    """Return the child of a row of `BEST_COLUMNS`."""
    *numbers, scored, tokens, graph, weights, inherits, latency, test, stopped, completion = row
    return Best(
        *numbers,
        tokens=tuple(json.loads(tokens)),
        graph=unpack(graph),
        scored=bool(scored),
        weights=weights,
        inherits=bool(inherits),
        latency_ms=latency,
        test=test,
        stopped=stopped and Stopped.from_json(json.loads(stopped)),
        completion=completion,
    )


def best(db: sqlite3.Connection) -> Best | None:
    """Return the child with the highest reward, the first one of several."""
    row = db.execute(f"SELECT {BEST_COLUMNS} FROM children WHERE id = ?", (totals(db).best,)).fetchone()
    return best_child(*row) if row else None


class BestMetric(NamedTuple):
    """The child with the highest reward, without its network."""

    child_id: int
    metric: float
    reward: float | None


def best_metric(db: sqlite3.Connection) -> BestMetric | None:
    """Return the child that `best` returns, in fewer words."""
    row = db.execute("SELECT id, metric, reward FROM children WHERE id = ?", (totals(db).best,)).fetchone()
    return row and BestMetric(*row)


def first_sampled_at(db: sqlite3.Connection) -> float | None:
    """Return the Unix time at which the first child was sampled, if there is one."""
    row = db.execute("SELECT sampled_at FROM children ORDER BY id LIMIT 1").fetchone()
    return row and row[0]


def metric_kind(db: sqlite3.Connection) -> str | None:
    """Return what the children's metric is, as their outcomes say; `None` where none does."""
    usual = f"'{Measure.ACCURACY}'"
    query = f"SELECT coalesce(json_extract(outcome, '$.measure'), {usual}) FROM children WHERE {MEASURED} LIMIT 1"
    row = db.execute(query).fetchone()
    return row and row[0]


def children_by_state(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many children are sampled, running, finished and failed."""
    found = dict(db.execute("SELECT state, count(*) FROM children WHERE completion IS NULL GROUP BY state"))
    failed = totals(db).failed
    ended = {"finished": last_completion(db) - failed, "failed": failed}
    return found | {state: count for state, count in ended.items() if count}


def num_fused(db: sqlite3.Connection) -> int:
    """Return how many children are in training as one with another one that is counted for all of them."""
    return db.execute(f"SELECT count(*) FROM attempts WHERE ended_at IS NULL AND {IS_OTHER}").fetchone()[0]


def failed_children_by_cause(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many children failed, by cause."""
    return dict(db.execute("SELECT cause, count(*) FROM children WHERE state = 'failed' GROUP BY cause"))


def retried_attempts_by_cause(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many attempts failed that did not give their child's outcome, by cause."""
    query = "SELECT cause, count(*) FROM attempts WHERE cause IS NOT NULL AND verdict <> 'outcome' GROUP BY cause"
    return dict(db.execute(query))


def last_failed_child(db: sqlite3.Connection) -> FailedChild | None:
    """Return the failed child that ended last."""
    latest = "SELECT max(completion) AS last FROM children WHERE state = 'failed' GROUP BY cause"  # by the index
    query = f"SELECT id, outcome FROM children WHERE completion = (SELECT max(last) FROM ({latest}))"
    row = db.execute(query).fetchone()
    if row is None:
        return None
    failure = json.loads(row[1])["failure"]
    return FailedChild(row[0], failure["cause"], failure["message"])


def stopped_early(db: sqlite3.Connection) -> StoppedEarly:
    """Return the children that were stopped before their last epoch; those that took an outcome do not count."""
    known = totals(db)
    return StoppedEarly(known.stopped, known.stopped_epochs)


def num_updates(db: sqlite3.Connection) -> int:
    """Return how many batches gave a gradient that was pushed; a push without one has the staleness of no shard."""
    return totals(db).updates


def mean_reward(db: sqlite3.Connection) -> float | None:
    """Return the mean reward of the children that have ended."""
    known = totals(db)
    return known.reward / known.rewarded if known.rewarded else None


def recent_reward(db: sqlite3.Connection, last: int) -> float | None:
    """Return the mean reward of the last so many of the children that have ended."""
    rewards = "SELECT reward FROM children WHERE completion IS NOT NULL ORDER BY completion DESC LIMIT ?"
    return db.execute(f"SELECT avg(reward) FROM ({rewards})", (last,)).fetchone()[0]


def first_mean_metric(db: sqlite3.Connection, first: int) -> tuple[float | None, int]:
    """Return the mean metric of the first so many children that have one, and how many these are."""
    metrics = f"SELECT metric FROM children WHERE {MEASURED} ORDER BY completion LIMIT ?"
    mean, count = db.execute(f"SELECT avg(metric), count(*) FROM ({metrics})", (first,)).fetchone()
    return mean, count


def newest_figures(db: sqlite3.Connection) -> dict[str, float]:
    """Return the searcher's figures of the batch that was learnt from last and has some; steps alone give none."""
    return finite_figures(totals(db).figures)


def attempts_of_start(db: sqlite3.Connection) -> Attempts:
    """Return the attempts that the run's last start has begun."""
    values = run_values(db)
    before = values.get("attempts_before")
    if before is None:  # an earlier version began the run
        query = "SELECT min(started_at), count(ended_at) FROM attempts WHERE started_at >= ?"
        return Attempts(*db.execute(query, (values.get("started_at", math.inf),)).fetchone())
    # An earlier start's have all ended.
    first = db.execute(
        "SELECT started_at FROM attempts WHERE attempt_id > ? ORDER BY attempt_id LIMIT 1", (before,)
    ).fetchone()
    (running,) = db.execute("SELECT count(*) FROM attempts WHERE ended_at IS NULL").fetchone()
    return Attempts(first and first[0], last_attempt(db) - before - running)
