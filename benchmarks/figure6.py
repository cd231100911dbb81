"""Policy gradient against random search as the paper's figure 6 compares them.

    python -m benchmarks.figure6 [seeds] [DIR]

On the space of recurrent cells, whose children the synthetic task scores at once; or, with the folder of NAS-Bench-201
(docs/tables.md), on that table: the validation accuracies after 12 epochs, the only ones that the searches receive.

Every 400 children the best 1, 5 and 15 distinct architectures of each search are averaged; that average over the latest
400 children alone shows what the policy samples at that time. The searches run in two processes; a seed always gives
the same figures.
"""

import multiprocessing
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from child_trainer.outcome import Budget
from cluster.compare.one_search import search
from cluster.compare.plan import Limit
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.statistics import CURVE_STEP, TOPS, NamedReward, top_mean_curve, top_means

SEEDS = 3
CHILDREN = 3 * CURVE_STEP
PER_STEP = 10
"""Children per step of the controller, as in the paper's search for cells."""

SearcherName = Literal["reinforce", "random"]
SEARCHERS: tuple[SearcherName, ...] = ("reinforce", "random")

Points = list[tuple[float, ...]]
"""The mean of the best 1, 5 and 15, after each 400 children."""


def configuration(data: Path | None) -> RunConfig:
    """Return the searches' settings except searcher and seed: on the table in `data`, or on synthetic cells."""
    # Some hundred steps instead of thousands: ten times the paper's 0.0005 and more.
    cells = RunConfig(
        local=True,
        space="recurrent",
        reward="accuracy",
        max_children=CHILDREN,
        task=TaskOptions(task="synthetic"),
        # The metric of the tenth epoch is within 0.1 % of the score.
        budget=Budget(epochs=10),
        topology=Topology(replicas=1, shards=1, children=PER_STEP),
        searcher_options=ReinforceOptions(controller_learning_rate=0.005),
    )
    if data is None:
        return cells
    table = RECIPES["nasbench201"]()
    return replace(
        table,
        local=True,
        max_children=CHILDREN,
        topology=cells.topology,
        task=replace(table.task, data=data),
        searcher_options=cells.searcher_options,  # without the recipe's entropy bonus, as in the paper
    )


def run_search(config: RunConfig) -> list[NamedReward]:
    """Run a whole search; return each child's architecture and reward in the order of their ends."""
    torch.set_num_threads(1)
    result = search(config, Limit(children=CHILDREN), lambda: False)
    assert result is not None, "the search was not asked to stop"
    return list(zip(result.architectures, result.rewards, strict=True))


def latest(children: Sequence[NamedReward]) -> Points:
    """Return the best of each 400 children separately."""
    return [top_means(children[start : start + CURVE_STEP]) for start in range(0, len(children), CURVE_STEP)]


def table(runs: dict[SearcherName, list[list[NamedReward]]], points: Callable[[list[NamedReward]], Points]) -> str:
    """Format a row for each point and searcher, and for the policy gradient's advantage seed by seed."""
    learned, random = ([points(run) for run in runs[searcher]] for searcher in SEARCHERS)
    better = [
        [tuple(a - b for a, b in zip(*pair, strict=True)) for pair in zip(*both, strict=True)]
        for both in zip(learned, random, strict=True)
    ]
    lines = [
        f"| children | search | {' | '.join(f'best {top}' for top in TOPS)} |",
        f"|---|---|{'---|' * len(TOPS)}",
    ]
    for place in range(CHILDREN // CURVE_STEP):
        for name, seeds in (("policy gradient", learned), ("random", random), ("difference", better)):
            columns = zip(*(seed[place] for seed in seeds), strict=True)
            lines.append(f"| {(place + 1) * CURVE_STEP:,} | {name} | {' | '.join(map(spread, columns))} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Format the median, the lowest and the highest value."""
    return f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def main(arguments: list[str]) -> None:
    """Run the searches and print both tables."""
    seeds = range(1, 1 + (int(arguments[0]) if arguments else SEEDS))
    base = configuration(Path(arguments[1]) if len(arguments) > 1 else None)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        started: dict[SearcherName, list[Future[list[NamedReward]]]] = {
            searcher: [pool.submit(run_search, replace(base.with_searcher(searcher), seed=seed)) for seed in seeds]
            for searcher in SEARCHERS
        }
        runs = {searcher: [future.result() for future in futures] for searcher, futures in started.items()}
    what = "Score of the synthetic task, at most 1" if len(arguments) < 2 else "Validation accuracy after 12 epochs"
    print(f"{what}; median of {len(seeds)} seeds (lowest to highest).\n")
    print(f"The best so far:\n\n{table(runs, top_mean_curve)}\n")
    print(f"The best of the latest {CURVE_STEP}:\n\n{table(runs, latest)}")


if __name__ == "__main__":
    main(sys.argv[1:])
