"""The searchers on NAS-Bench-201's CIFAR-10: how good the best cell is that each finds, within two budgets.

    python -m benchmarks.search_quality [seeds] [DIR] [RESULTS]

First by the 12-epoch validation, in simulated seconds; then by the 200-epoch validation, in counted children. Each
searcher is run once with each seed, up to the larger budget. DIR has the table's files (docs/tables.md); without it
they are looked for in $NASCLUSTER_DATA/nasbench201. RESULTS keeps each search, so that the same command continues after
an interruption; without it the results are not kept. docs/compare.md says how the options were found.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.nasbench201 import table_folder
from cluster.compare.comparison import best_of_table, plan_comparison, run_comparison
from cluster.compare.plan import Entrant, Limit, Plan
from cluster.compare.search_result import SearchResult, searches
from cluster.compare.standings import Figure, summarize
from cluster.placement.versions import versions

SEEDS = 100
FIRST_SEED = 1
"""Options were chosen on the seeds 1000 to 1029 and 5000 to 5039."""

SURROGATE = "bayesian:encoding=features,candidates=3000,children=1"
"""Path features of the cells instead of their tokens; with 3,000 random candidates it is stuck less often."""

EVOLUTION = "evolution:population=20,tournament=10,repeats=refused,children=1"

POLICY = "reinforce:children=4,controller-learning-rate=0.04,entropy-bonus=0.02,baseline-decay=0.9"

QUEUE = (
    "reinforce:children=2,controller-learning-rate=0.03,entropy-bonus=0.05,queue-size=5,queue-weight=0.05,"
    "baseline-decay=0.9"
)
"""With priority queue training: each step also makes the best five cells so far more likely."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A table of the benchmark.

    Attributes:
        title: what the search sees, and what is counted.
        flags: of the run.
        searchers: with their options.
        limits: the budgets, the largest last.
    """

    title: str
    flags: tuple[str, ...]
    searchers: tuple[str, ...]
    limits: tuple[Limit, ...]


PARTS = (
    Part(
        title="12-epoch validation, simulated seconds",
        flags=(),
        searchers=(SURROGATE, EVOLUTION, "local-search:children=1", POLICY, QUEUE, "random"),
        limits=(Limit(seconds=12_000.0), Limit(seconds=20_000.0)),
    ),
    Part(
        title="200-epoch validation, counted children",
        flags=("--task", "nasbench201-200", "--epochs", "200"),
        searchers=(SURROGATE, EVOLUTION, "local-search:children=1", "random"),
        limits=(Limit(children=100), Limit(children=200)),
    ),
)


def run(part: Part, seeds: int, data: Path, folder: Path) -> str:
    """Run the searches of one part that the folder lacks; return its table."""
    flags = ["--replicas", "1", "--shards", "1", *part.flags, "--data", str(data), "--seed", str(FIRST_SEED)]
    plan, table = plan_comparison("nasbench201", part.searchers, flags, seeds, part.limits[-1])
    assert table is not None
    run_comparison(plan, folder, len(os.sched_getaffinity(0)), Console(stderr=True), table)
    results = {entrant.label: _read(plan, entrant, folder) for entrant in plan.entrants}
    rows: dict[str, list[str]] = {entrant.label: [] for entrant in plan.entrants}
    for limit in part.limits:
        within = {label: [result.within(limit) for result in each] for label, each in results.items()}
        for standing in summarize(replace(plan, limit=limit), within, best_of_table(table)).standings:
            assert standing.test is not None
            rows[standing.label] += [f"{standing.children:.0f}", _cell(standing.metric), _cell(standing.test)]
    head = ["searcher", *(f"{what}, {limit}" for limit in part.limits for what in ("children", "validation", "test"))]
    lines = [head, ["---"] * len(head), *([label, *cells] for label, cells in rows.items())]
    return "\n".join([f"{part.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


def _read(plan: Plan, entrant: Entrant, folder: Path) -> Sequence[SearchResult]:
    stored = searches(folder, entrant, plan.limit, [versions().code, versions().torch])
    results = [stored.read(seed) for seed in plan.seeds]
    return [result for result in results if result is not None]


def _cell(figure: Figure) -> str:
    """Return mean ± standard deviation over seeds, and the 95 % interval of the mean, in percent."""
    end = figure.at_end
    return f"{100 * end.mean:.2f} ± {100 * figure.deviation:.2f} [{100 * end.low:.2f}, {100 * end.high:.2f}]"


def main(arguments: list[str]) -> None:
    """Run the searches and print the tables."""
    seeds = first_number(arguments, SEEDS)
    data = table_folder(arguments)
    if data is None:
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[2]) if len(arguments) > 2 else Path(temporary)
        for part in PARTS:
            print(run(part, seeds, data, folder), end="\n\n", flush=True)
    count = seeds * sum(len(part.searchers) for part in PARTS)
    print(f"Seeds {FIRST_SEED} to {FIRST_SEED + seeds - 1}; {count:,} searches, {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main(command_words(__doc__))
