"""Policy gradient against random search as the paper's figure 6 compares them.

    python -m benchmarks.figure6 [seeds] [DIR]
    python -m benchmarks.figure6 [seeds] [DIR] --task digits|fashion-mnist [--children N] [--output RUNS]

The first command searches the space of recurrent cells, whose children the synthetic task scores at once; or, with the
folder of NAS-Bench-201 (docs/tables.md), that table: the validation accuracies after 12 epochs, the only ones that the
searches receive. The searches run in two processes; a seed always gives the same figures.

The second command trains the children: convolutional networks of 3 layers, for one epoch. The files of Fashion-MNIST
are in DIR, or else in $NASCLUSTER_DATA/fashion-mnist. The searches are runs in the folder RUNS, one after another on
one core, so that the same command continues after an interruption; without RUNS they are not kept.

Every 400 children the best 1, 5 and 15 distinct architectures of each search are averaged; that average over the latest
400 children alone, and the mean of all of these, show what the policy samples at that time.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from benchmarks.runs import children
from child_trainer.outcome import Budget
from cluster.compare.one_search import search
from cluster.compare.plan import Limit
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.formatting import counted
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.statistics import CURVE_STEP, TOPS, NamedReward, top_mean_curve, top_means

SEEDS = 3
CHILDREN = 3 * CURVE_STEP
TRAINED_CHILDREN = 2 * CURVE_STEP
PER_STEP = 10
"""Children per step of the controller, as in the paper's search for cells."""

LEARNING_RATE = 0.005
"""Some hundred steps instead of thousands: ten times the paper's 0.0005."""

SearcherName = Literal["reinforce", "random"]
SEARCHERS: tuple[SearcherName, ...] = ("reinforce", "random")

OWN_FLAGS: dict[SearcherName, tuple[str, ...]] = {
    "reinforce": ("--shards", "1", "--controller-learning-rate", str(LEARNING_RATE)),
    "random": (),
}
"""Flags of the searchers of trained children."""

TRAINED: dict[str, tuple[str, ...]] = {
    "digits": (),
    # Images of 28 x 28 pixels, and 5,000 to validate with: large strides and few filters keep children small.
    "fashion-mnist": (
        *("--filter-heights", "1", "3", "5", "--filter-widths", "1", "3", "5", "--strides", "2", "3"),
        *("--num-filters", "4", "8", "12", "--train-fraction", "0.02"),
    ),
}
"""Flags of the searches whose children are trained, by the recipe."""

COMMON_FLAGS = (
    *("--local", "--replicas", "1", "--children", str(PER_STEP)),
    *("--epochs", "1", "--batch-size", "32", "--initial-depth", "3", "--max-depth", "3"),
)

Runs = dict[SearcherName, list[list[NamedReward]]]
"""The children of each search in the order of their ends, by the searcher, one search for each seed."""

Points = list[tuple[float, ...]]
"""The columns of a table, after each 400 children."""


def configuration(data: Path | None) -> RunConfig:
    """Return the searches' settings except searcher and seed: on the table in `data`, or on synthetic cells."""
    cells = RunConfig(
        local=True,
        space="recurrent",
        reward="accuracy",
        max_children=CHILDREN,
        task=TaskOptions(task="synthetic"),
        # The metric of the tenth epoch is within 0.1 % of the score.
        budget=Budget(epochs=10),
        topology=Topology(replicas=1, shards=1, children=PER_STEP),
        searcher_options=ReinforceOptions(controller_learning_rate=LEARNING_RATE),
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


def untrained(seeds: range, data: Path | None) -> Runs:
    """Run the searches on the table in `data`, or on synthetic cells."""
    base = configuration(data)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        started: dict[SearcherName, list[Future[list[NamedReward]]]] = {
            searcher: [pool.submit(run_search, replace(base.with_searcher(searcher), seed=seed)) for seed in seeds]
            for searcher in SEARCHERS
        }
        return {searcher: [future.result() for future in futures] for searcher, futures in started.items()}


def trained(task: str, seeds: range, count: int, data: Path | None, folder: Path) -> tuple[Runs, float]:
    """Run what the folder lacks of the searches whose children are trained.

    Returns:
        each child's architecture and validation accuracy, 0 for one that failed; and the seconds of all trainings.
    """
    place = ("--data", str(data)) if data else ()
    runs: Runs = {searcher: [] for searcher in SEARCHERS}
    seconds = 0.0
    for seed in seeds:
        for searcher in SEARCHERS:
            words = ("launch", task, *COMMON_FLAGS, *TRAINED[task], *place, "--searcher", searcher)
            name = f"{task}-{searcher}-{seed}"
            history = children(folder, name, seed, (*words, *OWN_FLAGS[searcher]), count)
            outcomes = [(child.architecture_id, child.outcome) for child in history[:count] if child.outcome]
            runs[searcher].append([(name, outcome.metric or 0.0) for name, outcome in outcomes])
            seconds += sum(outcome.seconds for _, outcome in outcomes)
    return runs, seconds


def latest(rewards: Sequence[NamedReward]) -> Points:
    """Return the best, and the mean of all, of each 400 children separately."""
    ends = range(CURVE_STEP, len(rewards) + 1, CURVE_STEP)
    parts = [rewards[end - CURVE_STEP : end] for end in ends]
    return [(*top_means(part), statistics.fmean(reward for _, reward in part)) for part in parts]


def table(runs: Runs, points: Callable[[list[NamedReward]], Points]) -> str:
    """Format a row for each point and searcher, and for the policy gradient's advantage seed by seed."""
    learned, random = ([points(run) for run in runs[searcher]] for searcher in SEARCHERS)
    better = [
        [tuple(a - b for a, b in zip(*pair, strict=True)) for pair in zip(*both, strict=True)]
        for both in zip(learned, random, strict=True)
    ]
    columns = [*(f"best {top}" for top in TOPS), "all"][: len(learned[0][0])]
    lines = [f"| children | search | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for place in range(len(learned[0])):
        for name, seeds in (("policy gradient", learned), ("random", random), ("difference", better)):
            values = zip(*(seed[place] for seed in seeds), strict=True)
            lines.append(f"| {(place + 1) * CURVE_STEP:,} | {name} | {' | '.join(map(spread, values))} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Format the median, the lowest and the highest value."""
    return f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def different(runs: Runs) -> str:
    """Return a sentence with the different architectures of each searcher's searches."""
    counts = {searcher: [len({name for name, _ in run}) for run in runs[searcher]] for searcher in SEARCHERS}
    words = (f"{', '.join(f'{count:,}' for count in counts[searcher])} of {searcher}" for searcher in SEARCHERS)
    return f"Different architectures of each search: {'; '.join(words)}."


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with one sentence on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figure6")
    parser.add_argument("seeds", type=int, nargs="?", default=SEEDS)
    parser.add_argument("data", metavar="DIR", type=Path, nargs="?")
    parser.add_argument("--task", choices=TRAINED)
    parser.add_argument("--children", type=int, metavar="N")
    parser.add_argument("--output", type=Path, metavar="RUNS")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"`seeds` must be at least 1, got {options.seeds}")
    if options.task is None and (options.children is not None or options.output is not None):
        parser.error("`--children` and `--output` are for trained children: give them with `--task`")
    if options.children is None:
        options.children = TRAINED_CHILDREN
    if options.children < CURVE_STEP:
        parser.error(
            f"`--children` must be at least {CURVE_STEP}, of which the curve has a point, got {options.children}"
        )
    if options.task == "fashion-mnist" and options.data is None:
        if not (shared := os.environ.get("NASCLUSTER_DATA")):
            parser.error("Fashion-MNIST is not here: give its folder, or set NASCLUSTER_DATA")
        options.data = Path(shared) / "fashion-mnist"
    return options


def main(arguments: list[str]) -> None:
    """Run the searches and print both tables."""
    options = parse(arguments)
    seeds = range(1, 1 + options.seeds)
    if options.task is None:
        runs = untrained(seeds, options.data)
        what = "Validation accuracy after 12 epochs" if options.data else "Score of the synthetic task, at most 1"
        cost = ""
    else:
        place = contextlib.nullcontext(options.output) if options.output else tempfile.TemporaryDirectory()
        with place as folder:
            runs, seconds = trained(options.task, seeds, options.children, options.data, Path(folder))
        what = f"Validation accuracy on {options.task} after one epoch"
        cost = f" All trainings took {seconds:,.0f} s."
    print(f"{what}; median of {counted(len(seeds), 'seed')} (lowest to highest).{cost} {different(runs)}\n")
    print(f"The best so far:\n\n{table(runs, top_mean_curve)}\n")
    print(f"The best, and the mean, of the latest {CURVE_STEP}:\n\n{table(runs, latest)}")


if __name__ == "__main__":
    main(sys.argv[1:])
