"""The cost of asynchrony: one replica or 20, barriers or streams, with or without importance weights.

    python -m benchmarks.asynchrony [seeds] [DIR]

REINFORCE on NAS-Bench-201, CIFAR-10: the real replica loops, pool, ledger and parameter store on a virtual clock
(`cluster/simulation/`), where a child occupies a worker for the seconds recorded in the table, nothing else takes
time, and nothing fails. All searches have equally many children, at most four per replica at one time, and a worker for
each of those: 20 replicas have 20 times the workers, and finish the same children 20 times as soon. Random search
serves as the baseline.

DIR has the table's files (docs/tables.md); the default is $NASCLUSTER_DATA/nasbench201. The searches run in as many
processes as there are cores; a seed always gives the same figures. docs/design/batching.md explains them.
"""

import functools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from child_trainer.tasks.lookup_table import Table
from cluster.compare.comparison import best_of_table
from cluster.compare.one_search import MemoryLedger, make_trainer
from cluster.compare.standings import DRAWS_SEED, Best
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.search.evaluator import ChildTrainer
from cluster.search.records import Batching, BatchResult
from cluster.simulation.clock import VirtualLoop
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.simulator import simulate_search_on
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.statistics import bootstrap_draws, bootstrap_interval, incumbents, step_function

SEEDS = 20
FIRST_SEED = 1
CHILDREN = 1_200
AT_CHILDREN = (100, 200, 400, 800, CHILDREN)
AT_HOURS = (0.1, 0.2, 0.4, 2.0, 8.0)
LATEST = 400
"""Number of last children whose mean shows what the policy samples at the end."""

TUNED = ReinforceOptions(controller_learning_rate=0.04, entropy_bonus=0.02, baseline_decay=0.9)
"""The options of `benchmarks.nasbench201`, with its four children per step."""

NOTHING_BUT_CHILDREN = ClusterModel(child_seconds=None, push_s=0.0)
"""A cluster on which only children take time: the seconds recorded in the table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to search: replicas, batching, weight clip and learning rate; the rate `None` means random search."""

    replicas: int
    batching: Batching
    clip: float | None = None
    learning_rate: float | None = TUNED.controller_learning_rate

    def __str__(self) -> str:
        if self.learning_rate is None:
            return f"K={self.replicas}, random"
        weights = "" if self.clip is None else f", weights up to {self.clip:g}"
        rate = "" if self.learning_rate == TUNED.controller_learning_rate else f", learning rate {self.learning_rate:g}"
        return f"K={self.replicas}, {self.batching}{weights}{rate}"


WAYS: tuple[tuple[Batching, float | None], ...] = (("barrier", None), ("stream", None), ("stream", 1.0))
"""When a replica learns, and the clip of the importance weights (`None`: no weights).

With barriers they are 1: a batch's gradient is that of the policy by which it was sampled.
"""

ARMS = (
    *(Arm(replicas=replicas, batching=batching, clip=clip) for replicas in (1, 20) for batching, clip in WAYS),
    Arm(replicas=20, batching="barrier", learning_rate=0.01),
    *(Arm(replicas=replicas, batching="stream", learning_rate=None) for replicas in (1, 20)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One search: sequences with an entry for each child in the order of their ends, or for each batch.

    Attributes:
        ended_at: virtual seconds since the start.
        metrics: validation accuracies, which the searcher receives.
        tests: test accuracies, which it does not receive.
        architectures: ids of the architectures.
        staleness: for each batch's push, the shards' steps since its oldest child was sampled.
        weights: mean importance weight of each batch; empty without weights.
    """

    ended_at: Sequence[float]
    metrics: Sequence[float]
    tests: Sequence[float]
    architectures: Sequence[str]
    staleness: Sequence[int]
    weights: Sequence[float]

    def at(self, grid: Sequence[float], *, hours: bool) -> list[tuple[float, float] | None]:
        """Return the best child's validation and test accuracy at each point of the grid.

        The grid counts children or virtual hours. A value is `None` before the first child and after the search's end.
        """
        ends = [second / 3600 for second in self.ended_at] if hours else list(range(1, len(self.metrics) + 1))
        best = [(self.metrics[p], self.tests[p]) for p in incumbents(self.metrics) if p is not None]
        values = step_function(ends, best, grid)
        return [value if place <= ends[-1] else None for place, value in zip(grid, values, strict=True)]


class RecordingLedger(MemoryLedger):
    """A ledger in memory that also keeps the result of each batch, in order."""

    def __init__(self, config: RunConfig, clock: Callable[[], float]) -> None:
        super().__init__(config, clock)
        self.results: list[BatchResult] = []

    def learned(self, replica: int, number: int, result: BatchResult) -> None:
        """Record a batch's result; see `cluster.search.records.ReplicaLedger.learned`."""
        self.results.append(result)
        super().learned(replica, number, result)


def configuration(arm: Arm, seed: int, data: Path, children: int = CHILDREN) -> RunConfig:
    """Return the configuration of one search of an arm, on the table in the folder `data`."""
    table = RECIPES["nasbench201"]()
    return replace(
        table,
        local=True,
        seed=seed,
        max_children=children,
        searcher="random" if arm.learning_rate is None else "reinforce",
        task=replace(table.task, data=data),
        topology=Topology(replicas=arm.replicas, shards=1, children=4, batching=arm.batching),
        searcher_options=replace(TUNED, controller_learning_rate=arm.learning_rate, importance_clip=arm.clip)
        if arm.learning_rate is not None
        else None,
    )


def traced(config: RunConfig, trainer: ChildTrainer, table: Table) -> Trace:
    """Run a whole search on a virtual clock, with a worker for each child that may be in training."""
    with closing(VirtualLoop()) as loop, closing(RecordingLedger(config, loop.time)) as ledger:
        simulation = simulate_search_on(loop, ledger, config, NOTHING_BUT_CHILDREN, trainer)
        children, results = ledger.ended, ledger.results
    ended_at = {interval.child_id: interval.ended_at for interval in simulation.worker_log.intervals}
    answers = [table.answer(config.search_space.decode(child.tokens)) for child in children]
    return Trace(
        ended_at=[ended_at[child.id] for child in children],
        metrics=[answer.metric for answer in answers],
        tests=[answer.test or 0.0 for answer in answers],
        architectures=[child.architecture_id for child in children],
        staleness=[max(result.staleness) for result in results if result.staleness is not None],
        weights=[r.figures["importance_weight"] for r in results if "importance_weight" in r.figures],
    )


@functools.lru_cache(maxsize=1)
def _table(data: Path) -> tuple[ChildTrainer, Table]:
    """Load the trainer and the table, once per process for all of its searches."""
    trainer = make_trainer(configuration(ARMS[0], FIRST_SEED, data))
    assert isinstance(trainer.task, Table)
    return trainer, trainer.task


def searched(arm: Arm, seed: int, data: Path) -> Trace:
    """Run one search of an arm, in a process that runs many."""
    return traced(configuration(arm, seed, data), *_table(data))


Values = Callable[[Trace], Sequence[float | None]]
"""Returns, for one search, the value of each column of a table in percent; `None` leaves the cell empty."""


def best_at(grid: Sequence[float], place: int, *, hours: bool) -> Values:
    """Return a reader of the best child's validation (place 0) or test accuracy (1) at each point of the grid."""
    return lambda trace: [None if pair is None else 100 * pair[place] for pair in trace.at(grid, hours=hours)]


def figures_of(trace: Trace) -> list[float | None]:
    """Return a search's figures other than its best child."""
    stale = sorted(trace.staleness)
    return [
        statistics.fmean(stale) if stale else None,
        float(stale[min(len(stale) - 1, int(0.95 * len(stale)))]) if stale else None,
        statistics.fmean(trace.weights) if trace.weights else None,
        float(len(set(trace.architectures))),
        100 * statistics.fmean(trace.metrics[-LATEST:]),
        trace.ended_at[-1] / 3600,
    ]


Traces = Sequence[tuple[Arm, Sequence[Trace]]]
"""The searches of each arm, by seed."""


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[Sequence[float | None]]]]) -> str:
    """Format a Markdown table from rows of a name and each seed's values; `None` in any seed leaves a cell empty."""

    def cell(values: Sequence[float | None]) -> str:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return ""
        mean = bootstrap_interval(known, bootstrap_draws(len(known), DRAWS_SEED))
        return f"{mean.mean:.2f} ± {statistics.stdev(known):.2f} [{mean.low:.2f}, {mean.high:.2f}]"

    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {name} | {' | '.join(map(cell, zip(*seeds, strict=True)))} |" for name, seeds in rows]
    return "\n".join(lines)


def report(traces: Traces, best: Best, at_children: Sequence[int], at_hours: Sequence[float]) -> str:
    """Format all tables. Differences are to the first arm, seed by seed."""
    children = [f"{count:,} children" for count in at_children]
    hours = [f"{count:g} h" for count in at_hours]
    parts: list[str] = []
    for name, place, optimum in (("Validation", 0, best.metric), ("Test", 1, best.test or 0.0)):
        for columns, grid, by_hours in ((children, at_children, False), (hours, at_hours, True)):
            values = best_at(grid, place, hours=by_hours)
            rows = [(str(arm), [values(trace) for trace in searches]) for arm, searches in traces]
            title = f"{name} accuracy of the best child, % (the table's best: {100 * optimum:.2f})"
            parts.append(f"{title}:\n\n{table(['', *columns], rows)}")
    values = best_at(at_children, 0, hours=False)
    (first, against), *others = traces
    rows = [
        (str(arm), [_difference(values(ours), values(theirs)) for ours, theirs in zip(searches, against, strict=True)])
        for arm, searches in others
    ]
    parts.append(f"Validation accuracy, against {first} with the same seed:\n\n{table(['', *children], rows)}")
    head = [
        "",
        "staleness",
        "its 95th percentile",
        "mean weight",
        "different cells",
        f"mean of the last {LATEST}, %",
        "h",
    ]
    rows = [(str(arm), [figures_of(trace) for trace in searches]) for arm, searches in traces]
    parts.append(f"The searches:\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    return [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)]


def main(arguments: list[str]) -> None:
    """Run the searches and print the tables."""
    seeds = range(FIRST_SEED, FIRST_SEED + first_number(arguments, SEEDS))
    root = os.environ.get("NASCLUSTER_DATA")
    if len(arguments) < 2 and not root:
        print("Skipped: give the folder of NAS-Bench-201 as DIR, or its parent as NASCLUSTER_DATA")
        return
    data = Path(arguments[1]) if len(arguments) > 1 else Path(str(root)) / "nasbench201"
    started = time.monotonic()
    _, tabular = _table(data)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=multiprocessing.get_context("spawn")) as pool:
        # Seed by seed, so that an arm that takes longer does not keep one process at the end.
        jobs = {(arm, seed): pool.submit(searched, arm, seed, data) for seed in seeds for arm in ARMS}
        traces = [(arm, [jobs[arm, seed].result() for seed in seeds]) for arm in ARMS]
    print(f"{CHILDREN:,} children in each search, seeds {seeds[0]} to {seeds[-1]}: the mean over them ± their standard")
    print("deviation [95 % bootstrap interval of the mean].\n")
    print(report(traces, best_of_table(tabular), AT_CHILDREN, AT_HOURS))
    print(f"\n{len(ARMS) * len(seeds):,} searches took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main(command_words(__doc__))
