"""The accuracy and the cost of `nascluster simulate`.

    python -m benchmarks.simulator              # all parts
    python -m benchmarks.simulator real         # real searches on Ray compared with their simulations
    python -m benchmarks.simulator paper        # the paper's size, with losses of machines and shards
    python -m benchmarks.simulator large        # 100,000 workers, with as many children in training

The real searches are of 16 workers whose children sleep, with REINFORCE, so that updates are stale. They are compared
with simulations of exactly these children with their measured seconds, and of other children with times from the same
distribution, as in planning, as means over ten seeds. Time counts from the first child's start to the last one's end.
The delay of a message is estimated from the real streams: the time between two children at a worker, divided by the
number of messages.
"""

import itertools
import json
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from benchmarks.batching import BATCHINGS, Shape, Sleeps, rehearsed
from benchmarks.command_words import words as command_words
from child_trainer.outcome import Budget
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.instant_recipes import rehearsal
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.search.records import Batching
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.estimate import HOUR_S, Staleness, compute_figures, summarize_staleness
from cluster.simulation.simulator import SimulationResult, simulate_search, workers_of

SMALL = Shape(topology=Topology(replicas=4, shards=2, children=4), children=160, median_s=5.0)

SIGMA = 0.5

SEEDS = (1, 2)
"""Seeds of the real searches."""

OTHERS = range(101, 111)
"""Seeds of the planned searches."""

MESSAGES = 18
"""Number of messages between a child's recorded end and the next one's recorded start at its worker, in streams."""

CHILDREN = "SELECT seed, seconds FROM children"
ATTEMPTS = "SELECT slot, started_at, ended_at FROM attempts ORDER BY slot, started_at"
PUSHES = "SELECT staleness FROM batches WHERE pushed = 1"


@dataclass(frozen=True, slots=True)
class Pace:
    """Pace of one search: children per hour from the first start to the last end, and staleness of pushes."""

    children_per_hour: float
    staleness: Staleness

    @classmethod
    def of(cls, seconds: float, pushes: Sequence[float]) -> "Pace":
        """Compute the pace of the children of `SMALL`."""
        staleness = summarize_staleness(pushes)
        assert staleness is not None
        return cls(SMALL.children / seconds * HOUR_S, staleness)


@dataclass(frozen=True, slots=True)
class Real:
    """A search on Ray.

    Attributes:
        seed: the run's seed.
        pace: the run's pace.
        seconds: how long the child of each seed took.
        gap_s: median seconds from a child's end to the next one's start at a worker.
    """

    seed: int
    pace: Pace
    seconds: dict[int, float]
    gap_s: float


def real(batching: Batching, seed: int) -> Real:
    """Run a real search and measure it."""
    words = ("--searcher", "reinforce", "--seed", str(seed))
    children, attempts, pushes = rehearsed(SMALL, batching, SIGMA, *words, queries=[CHILDREN, ATTEMPTS, PUSHES])
    started = min(started_at for _, started_at, _ in attempts)
    pace = Pace.of(
        max(ended_at for *_, ended_at in attempts) - started, [fmean(json.loads(shards)) for (shards,) in pushes]
    )
    pairs = [(one[2], two[1]) for one, two in itertools.pairwise(attempts) if one[0] == two[0]]
    return Real(seed, pace, dict(children), median(started_at - ended_at for ended_at, started_at in pairs))


def config(batching: Batching, seed: int) -> RunConfig:
    """Return the simulation's configuration of the search."""
    return replace(
        rehearsal(),
        seed=seed,
        max_children=SMALL.children,
        budget=Budget(epochs=1),
        task=TaskOptions(task="synthetic", options=SyntheticOptions(child_seconds=SMALL.median_s, child_spread=SIGMA)),
        topology=replace(SMALL.topology, batching=batching),
    )


def same_children(batching: Batching, search: Real, delay_s: float) -> Pace:
    """Simulate exactly the children of a real search."""
    conditions = ClusterModel(child_seconds=None, delay_s=delay_s)
    return _pace(simulate_search(config(batching, search.seed), conditions, Sleeps(search.seconds.__getitem__)))


def planned(batching: Batching, seed: int, delay_s: float) -> Pace:
    """Simulate other children with times from the same distribution."""
    times = ChildSeconds("lognormal", SMALL.median_s, SIGMA)
    return _pace(simulate_search(config(batching, seed), ClusterModel(child_seconds=times, delay_s=delay_s)))


def _pace(result: SimulationResult) -> Pace:
    intervals = result.worker_log.intervals
    seconds = max(s.ended_at for s in intervals) - min(s.started_at for s in intervals)
    return Pace.of(seconds, result.replicas.staleness)


def real_table() -> Iterator[str]:
    """Yield a Markdown table of real searches, each followed by its simulations."""
    yield "| batching | search | children an hour | staleness, mean | p50 | p95 | max |"
    yield "|---|---|---|---|---|---|---|"
    delay_s = 0.0
    for batching in reversed(BATCHINGS):  # the streams come first: they show the delay of messages
        searches = [real(batching, seed) for seed in SEEDS]
        delay_s = delay_s or fmean(search.gap_s for search in searches) / MESSAGES
        truth = [search.pace for search in searches]
        yield _row(batching, f"real, {len(SEEDS)} seeds", truth, truth)
        for name, delay in (("no delay", 0.0), (f"a delay of {delay_s * 1e3:.1f} ms", delay_s)):
            paces = [same_children(batching, search, delay) for search in searches]
            yield _row(batching, f"simulated, the same children, {name}", paces, truth)
        paces = [planned(batching, seed, delay_s) for seed in OTHERS]
        yield _row(batching, f"simulated, {len(OTHERS)} other seeds, that delay", paces, truth)


def _row(batching: Batching, name: str, simulated: Sequence[Pace], truth: Sequence[Pace]) -> str:
    cells = [batching, name]
    for measure in (
        lambda pace: pace.children_per_hour,
        lambda pace: pace.staleness.mean,
        lambda pace: pace.staleness.p50,
        lambda pace: pace.staleness.p95,
        lambda pace: pace.staleness.max,
    ):
        value, right = (fmean(map(measure, paces)) for paces in (simulated, truth))
        error = "" if simulated is truth or not right else f" ({value / right - 1:+.1%})"
        cells.append(f"{value:,.2f}{error}")
    return f"| {' | '.join(cells)} |"


def timed(name: str, config: RunConfig, conditions: ClusterModel) -> str:
    """Format a row of a table: the results of a simulation, and its cost."""
    started, used = time.perf_counter(), time.process_time()
    result = simulate_search(config, conditions)
    took, used = time.perf_counter() - started, time.process_time() - used
    figures = compute_figures(config, result)
    at_once = max(_at_once(result))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return (
        f"| {name} | {workers_of(config):,} | {figures.children:,} | {at_once:,} | {figures.preemptions:,} |"
        f" {figures.seconds / HOUR_S:.1f} | {figures.steady_utilisation:.1%} | {took:.0f} | {used:.0f} | {memory:.2f} |"
    )


def _at_once(result: SimulationResult) -> Iterator[int]:
    """Yield the number of children in training after each start and each end."""
    changes = [(s.started_at, 1) for s in result.worker_log.intervals] + [
        (s.ended_at, -1) for s in result.worker_log.intervals
    ]
    training = 0
    for _, change in sorted(changes):
        training += change
        yield training


HEAD = (
    "| search | workers | children | at once | preemptions | hours | utilisation | took, s | of a core, s |"
    " peak memory, GB |\n|---|---|---|---|---|---|---|---|---|---|"
)

TIMES = ChildSeconds("lognormal", HOUR_S, SIGMA)


def paper_table() -> Iterator[str]:
    """Yield a Markdown table of the paper's search, without losses and with losses of machines and shards."""
    yield HEAD
    lost = ClusterModel(child_seconds=TIMES, preempted_per_s=0.05 / HOUR_S, shard_mtbf_s=200 * HOUR_S)
    for batching in BATCHINGS:
        paper = RECIPES["zoph2017-cifar10"]()
        paper = replace(paper, topology=replace(paper.topology, batching=batching))
        yield timed(f"{batching}, nothing lost", paper, ClusterModel(child_seconds=TIMES))
        yield timed(f"{batching}, 0.05 preemptions an hour, shards fail", paper, lost)


def large_table() -> Iterator[str]:
    """Yield a Markdown table of searches with very many workers."""
    yield HEAD
    many = replace(RECIPES["zoph2017-cifar10"](), max_children=100_000)
    many = replace(many, topology=replace(many.topology, replicas=12_500))
    yield timed("12,500 replicas of 8", many, ClusterModel(child_seconds=TIMES))
    lost = ClusterModel(child_seconds=TIMES, preempted_per_s=0.05 / HOUR_S)
    yield timed("12,500 replicas of 8, 0.05 preemptions an hour", many, lost)


PARTS = {"real": real_table, "paper": paper_table, "large": large_table}


def main(arguments: list[str]) -> None:
    """Measure, and print a table for each part."""
    for part in arguments or PARTS:
        for row in PARTS[part]():
            print(row, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main(command_words(__doc__))
