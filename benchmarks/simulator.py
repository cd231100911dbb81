"""Whether `nascluster simulate` tells the truth, and what it takes to.

    python -m benchmarks.simulator              # all parts
    python -m benchmarks.simulator real         # real searches on Ray against what is simulated for them
    python -m benchmarks.simulator paper        # the paper's size, with machines and shards that are lost
    python -m benchmarks.simulator large        # 100,000 workers, with as many children in training

The real searches are of 16 workers whose children sleep, with REINFORCE, so that updates are stale. They are compared
with simulations of the very children, each with the seconds that it took, and of others with times from the same
distribution, as one would plan, means over ten seeds. Time counts from the first child's start to the last one's end.
The delay of a message is had from the real streams: what passes between two children at a worker, over the messages.
"""

import itertools
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from benchmarks.batching import BATCHINGS, Shape, Sleeps, rehearsed
from child_trainer.outcome import Budget
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.recipes import RECIPES, rehearsal
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
"""Of the real searches."""

OTHERS = range(101, 111)
"""Of those that are planned."""

MESSAGES = 18
"""From a child's recorded end to the next one's recorded start at its worker, where children stream."""

CHILDREN = "SELECT seed, seconds FROM children"
ATTEMPTS = "SELECT slot, started_at, ended_at FROM attempts ORDER BY slot, started_at"
PUSHES = "SELECT staleness FROM batches WHERE pushed = 1"


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one search: children an hour from the first child's start to the last one's end, and how stale pushes were."""

    children_per_hour: float
    staleness: Staleness

    @classmethod
    def of(cls, seconds: float, pushes: Sequence[float]) -> "Pace":
        """Of the children of `SMALL`."""
        staleness = summarize_staleness(pushes)
        assert staleness is not None
        return cls(SMALL.children / seconds * HOUR_S, staleness)


@dataclass(frozen=True, slots=True)
class Real:
    """A search on Ray.

    Attributes:
        seed: the run's.
        pace: its.
        seconds: how long the child of each seed took there.
        gap_s: from a child's end to the next one's start at a worker, the median.
    """

    seed: int
    pace: Pace
    seconds: dict[int, float]
    gap_s: float


def real(batching: Batching, seed: int) -> Real:
    """Carry it out."""
    words = ("--searcher", "reinforce", "--seed", str(seed))
    children, attempts, pushes = rehearsed(SMALL, batching, SIGMA, *words, queries=[CHILDREN, ATTEMPTS, PUSHES])
    begun = min(started_at for _, started_at, _ in attempts)
    pace = Pace.of(
        max(ended_at for *_, ended_at in attempts) - begun, [fmean(json.loads(shards)) for (shards,) in pushes]
    )
    pairs = [(one[2], two[1]) for one, two in itertools.pairwise(attempts) if one[0] == two[0]]
    return Real(seed, pace, dict(children), median(started_at - ended_at for ended_at, started_at in pairs))


def config(batching: Batching, seed: int) -> RunConfig:
    """The same search as its simulation is told of it."""
    return replace(
        rehearsal(),
        seed=seed,
        max_children=SMALL.children,
        budget=Budget(epochs=1),
        task=TaskOptions(task="synthetic", options=SyntheticOptions(child_seconds=SMALL.median_s, child_spread=SIGMA)),
        topology=replace(SMALL.topology, batching=batching),
    )


def same_children(batching: Batching, search: Real, delay_s: float) -> Pace:
    """The simulation of the very children."""
    conditions = ClusterModel(child_seconds=None, delay_s=delay_s)
    return _pace(simulate_search(config(batching, search.seed), conditions, Sleeps(search.seconds.__getitem__)))


def planned(batching: Batching, seed: int, delay_s: float) -> Pace:
    """The simulation of other children with times from the same distribution."""
    times = ChildSeconds("lognormal", SMALL.median_s, SIGMA)
    return _pace(simulate_search(config(batching, seed), ClusterModel(child_seconds=times, delay_s=delay_s)))


def _pace(result: SimulationResult) -> Pace:
    intervals = result.worker_log.intervals
    seconds = max(s.ended_at for s in intervals) - min(s.started_at for s in intervals)
    return Pace.of(seconds, result.replicas.staleness)


def real_table() -> Iterator[str]:
    """Markdown: real searches, and under them what is simulated for them."""
    yield "| batching | search | children an hour | staleness, mean | p50 | p95 | max |"
    yield "|---|---|---|---|---|---|---|"
    delay_s = 0.0
    for batching in reversed(BATCHINGS):  # what messages take can be told from streams
        searches = [real(batching, seed) for seed in SEEDS]
        delay_s = delay_s or fmean(search.gap_s for search in searches) / MESSAGES
        truth = [search.pace for search in searches]
        yield _row(batching, f"real, {len(SEEDS)} seeds", truth, truth)
        for name, delay in (("no delay", 0.0), (f"a delay of {delay_s * 1e3:.1f} ms", delay_s)):
            found = [same_children(batching, search, delay) for search in searches]
            yield _row(batching, f"simulated, the same children, {name}", found, truth)
        found = [planned(batching, seed, delay_s) for seed in OTHERS]
        yield _row(batching, f"simulated, {len(OTHERS)} other seeds, that delay", found, truth)


def _row(batching: Batching, name: str, found: Sequence[Pace], truth: Sequence[Pace]) -> str:
    cells = [batching, name]
    for measure in (
        lambda pace: pace.children_per_hour,
        lambda pace: pace.staleness.mean,
        lambda pace: pace.staleness.p50,
        lambda pace: pace.staleness.p95,
        lambda pace: pace.staleness.max,
    ):
        value, right = (fmean(map(measure, paces)) for paces in (found, truth))
        error = "" if found is truth or not right else f" ({value / right - 1:+.1%})"
        cells.append(f"{value:,.2f}{error}")
    return f"| {' | '.join(cells)} |"


def timed(name: str, config: RunConfig, conditions: ClusterModel) -> str:
    """A row of a table: what a simulation says, and what it took."""
    begun, used = time.perf_counter(), time.process_time()
    result = simulate_search(config, conditions)
    took, used = time.perf_counter() - begun, time.process_time() - used
    found = compute_figures(config, result)
    at_once = max(_at_once(result))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return (
        f"| {name} | {workers_of(config):,} | {found.children:,} | {at_once:,} | {found.preemptions:,} |"
        f" {found.seconds / HOUR_S:.1f} | {found.steady_utilisation:.1%} | {took:.0f} | {used:.0f} | {memory:.2f} |"
    )


def _at_once(result: SimulationResult) -> Iterator[int]:
    """How many children were in training after each start and each end."""
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
    """Markdown: the paper's search, with nothing lost and with machines and shards that are."""
    yield HEAD
    lost = ClusterModel(child_seconds=TIMES, preempted_per_s=0.05 / HOUR_S, shard_mtbf_s=200 * HOUR_S)
    for batching in BATCHINGS:
        paper = RECIPES["zoph2017-cifar10"]()
        paper = replace(paper, topology=replace(paper.topology, batching=batching))
        yield timed(f"{batching}, nothing lost", paper, ClusterModel(child_seconds=TIMES))
        yield timed(f"{batching}, 0.05 preemptions an hour, shards fail", paper, lost)


def large_table() -> Iterator[str]:
    """Markdown: very many workers."""
    yield HEAD
    many = replace(RECIPES["zoph2017-cifar10"](), max_children=100_000)
    many = replace(many, topology=replace(many.topology, replicas=12_500))
    yield timed("12,500 replicas of 8", many, ClusterModel(child_seconds=TIMES))
    lost = ClusterModel(child_seconds=TIMES, preempted_per_s=0.05 / HOUR_S)
    yield timed("the same, 0.05 preemptions an hour", many, lost)


PARTS = {"real": real_table, "paper": paper_table, "large": large_table}


def main(arguments: list[str]) -> None:
    """Measure, and print a table for each part."""
    for part in arguments or PARTS:
        for row in PARTS[part]():
            print(row, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
