"""Utilisation of workers with `--batching barrier` and with `stream`, for children of varying duration.

    python -m benchmarks.batching               # both parts
    python -m benchmarks.batching simulated     # the paper's size, on a virtual clock
    python -m benchmarks.batching real          # 16 workers on Ray, whose children sleep

Both parts run the real replica loops, pool and ledger with random search. A child's seconds are drawn by its seed from
a log-normal distribution of the given sigma. Utilisation is the workers' training time divided by their
available time, from the first child's start until the last child starts: after that there are fewer children than
workers. The utilisation of the whole run is given as well.
"""

import itertools
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command_words import words as command_words
from benchmarks.exactly_once import isolated
from child_trainer.outcome import Budget, Outcome
from child_trainer.tasks.synthetic import SyntheticTask
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.search.evaluator import Assignment
from cluster.search.records import Batching
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.fake_searcher import fake_outcome
from cluster.simulation.simulator import simulate_search
from cluster.simulation.worker_log import BusyInterval, WorkerLog
from controller.spaces.convolutional import ConvolutionalSpace
from tests.chaos.machines import start_command

SIGMAS = (0.25, 0.5, 0.8)
BATCHINGS: tuple[Batching, ...] = ("barrier", "stream")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The size of a search: its topology, number of children, and median seconds of a child."""

    topology: Topology
    children: int
    median_s: float

    @property
    def workers(self) -> int:
        """Number of workers, one for each child that may be in training."""
        return self.topology.replicas * self.topology.children

    def __str__(self) -> str:
        topology = self.topology
        return (
            f"{topology.replicas} replicas, {topology.children} children each, {self.workers} workers,"
            f" {self.children:,} children of {self.median_s:g} s at the median"
        )


PAPER = Shape(topology=Topology(replicas=100, shards=20, children=8), children=12_800, median_s=3600.0)
SMALL = Shape(topology=Topology(replicas=4, shards=2, children=4), children=160, median_s=2.0)

OUTCOMES = "SELECT child, started_at, seconds FROM attempts JOIN children ON id = child"


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one search.

    Attributes:
        steady: utilisation until the last child starts.
        whole: utilisation of the whole run.
        ended_at: seconds from the first child's start to the last one's end.
        took_s: seconds that the measurement took.
    """

    steady: float
    whole: float
    ended_at: float
    took_s: float

    @classmethod
    def of(cls, worker_log: WorkerLog, workers: int, took_s: float) -> "Figures":
        """Compute the figures from the log of a constant number of workers."""
        steady, ended_at = worker_log.last_child_started_at, max(interval.ended_at for interval in worker_log.intervals)
        return cls(
            steady=worker_log.busy_s(steady) / (workers * steady),
            whole=worker_log.busy_s(ended_at) / (workers * ended_at),
            ended_at=ended_at,
            took_s=took_s,
        )


@dataclass(frozen=True, slots=True)
class Sleeps:
    """A trainer whose children only sleep, for a number of seconds given by the seed."""

    seconds: Callable[[int], float]

    def train(self, assignment: Assignment, **_: object) -> Outcome:
        """Return an outcome without training; see `cluster.search.evaluator.ChildTrainer`."""
        return fake_outcome(assignment.seed, self.seconds(assignment.seed))


def simulated(shape: Shape, batching: Batching, sigma: float) -> Figures:
    """Run a search on a virtual clock on which only children take time and nothing fails."""
    config = RunConfig(
        searcher="random",
        reward="accuracy",
        max_children=shape.children,
        task=TaskOptions(task="synthetic"),
        budget=Budget(epochs=1),
        topology=replace(shape.topology, batching=batching),
        space_options=ConvolutionalSpace(initial_depth=1, max_depth=1),
    )
    children = Sleeps(SyntheticTask(child_seconds=shape.median_s, child_spread=sigma).seconds_of)
    started = time.perf_counter()
    result = simulate_search(config, ClusterModel(child_seconds=None, push_s=0.0), children)
    if result.children != shape.children or result.failed:
        raise SystemExit(f"{result.children - result.failed} of {shape.children} children have finished")
    return Figures.of(result.worker_log, shape.workers, time.perf_counter() - started)


def rehearsed(shape: Shape, batching: Batching, sigma: float, *words: str, queries: Sequence[str]) -> list[list[Any]]:
    """Run a search on Ray whose children sleep; return the rows of each query on its ledger.

    Args:
        shape: the size of the search, and how long children sleep.
        batching: how children become batches.
        sigma: spread of the children's log-normal durations.
        words: additional flags of `nascluster launch rehearsal`.
        queries: SQL queries.
    """
    numbers = {
        "replicas": shape.topology.replicas,
        "shards": shape.topology.shards,
        "children": shape.topology.children,
        "workers": shape.workers,
        "workers-per-process": shape.workers,
        "max-children": shape.children,
        "child-seconds": shape.median_s,
        "child-spread": sigma,
    }
    flags = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    launch = ("launch", "rehearsal", "--name", "run", "--epochs", "1", "--batching", batching)
    with isolated() as environment:
        run = start_command([*launch, *flags, *words], environment, log=subprocess.DEVNULL)
        if run.wait():
            raise SystemExit(f"the run ended with status {run.returncode}")
        ledger = Path(environment["HOME"]) / "nascluster_runs" / "run" / "ledger.sqlite"
        with closing(sqlite3.connect(ledger)) as db:
            return [db.execute(query).fetchall() for query in queries]


def real(shape: Shape, batching: Batching, sigma: float) -> Figures:
    """Measure a search on Ray whose children sleep: each is busy from its attempt's start for as long as it slept."""
    started = time.perf_counter()
    (rows,) = rehearsed(shape, batching, sigma, "--searcher", "random", queries=[OUTCOMES])
    if len(rows) != shape.children:
        raise SystemExit(f"{len(rows)} attempts at {shape.children} children")
    first = min(at for _, at, _ in rows)
    intervals = [BusyInterval(child, at - first, at - first + seconds, seconds) for child, at, seconds in rows]
    worker_log = WorkerLog(
        intervals=intervals, last_child_started_at=max(interval.started_at for interval in intervals)
    )
    return Figures.of(worker_log, shape.workers, time.perf_counter() - started)


def simulated_table() -> str:
    """Format a Markdown table with a row for each sigma and batching."""
    rows = ["| sigma | batching | utilisation | with the end | hours | simulated in, s |", "|---|---|---|---|---|---|"]
    for sigma, batching in itertools.product(SIGMAS, BATCHINGS):
        f = simulated(PAPER, batching, sigma)
        hours = f"{f.ended_at / 3600:.1f}"
        rows.append(f"| {sigma} | {batching} | {f.steady:.1%} | {f.whole:.1%} | {hours} | {f.took_s:.0f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def real_table() -> str:
    """Format a Markdown table of real runs, in seconds, with the simulated utilisation for their size."""
    rows = ["| sigma | batching | utilisation | simulated | with the end | seconds |", "|---|---|---|---|---|---|"]
    for sigma, batching in itertools.product(SIGMAS, BATCHINGS):
        expected, f = simulated(SMALL, batching, sigma), real(SMALL, batching, sigma)
        seconds = f"{f.ended_at:.1f}"
        rows.append(f"| {sigma} | {batching} | {f.steady:.1%} | {expected.steady:.1%} | {f.whole:.1%} | {seconds} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def main(arguments: list[str]) -> None:
    """Measure, and print a table for each part."""
    parts = arguments or ["simulated", "real"]
    if "simulated" in parts:
        print(f"Simulated: {PAPER}\n\n{simulated_table()}\n")
    if "real" in parts:
        print(f"On Ray: {SMALL}\n\n{real_table()}")


if __name__ == "__main__":
    main(command_words(__doc__))
