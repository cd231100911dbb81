"""Policy gradient against random search as the paper's figure 6 compares them, on the space of recurrent cells.

    python -m benchmarks.figure6 [seeds]

Children are scored by the synthetic task, at once. Every 400 children the best 1, 5 and 15 different cells that each
search has found are averaged; the same of the latest 400 children only shows what the policy samples by then. Each
search is a whole run in a process of its own, two at a time; a seed gives the same figures every time.
"""

import io
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from child_trainer.outcome import Budget
from cluster.config import RunConfig, TaskOptions, Topology
from cluster.ledger import Ledger
from cluster.run import execute
from cluster.run_folder import run_folder
from controller.comparison import EVERY, TOPS, Found, course, top_means
from controller.searchers.options import ReinforceOptions

SEEDS = 3
CHILDREN = 3 * EVERY
PER_STEP = 10
"""Children to a step of the controller, as in the paper's search for cells."""

SearcherName = Literal["reinforce", "random"]
SEARCHERS: tuple[SearcherName, ...] = ("reinforce", "random")

Points = list[tuple[float, ...]]
"""After each 400 children, the mean of the best 1, 5 and 15."""


def found(searcher: SearcherName, seed: int) -> list[Found]:
    """What a whole run finds: each child's architecture and score, in the order in which the children ended."""
    torch.set_num_threads(1)
    config = RunConfig(
        local=True,
        seed=seed,
        space="recurrent",
        searcher=searcher,
        reward="accuracy",
        max_children=CHILDREN,
        task=TaskOptions(task="synthetic"),
        # The metric of the tenth epoch is within 0.1 % of the score.
        budget=Budget(epochs=10),
        topology=Topology(replicas=1, shards=1, children=PER_STEP),
        # Some hundred steps instead of thousands: ten times the paper's 0.0005.
        reinforce=ReinforceOptions(controller_learning_rate=0.005),
    )
    with tempfile.TemporaryDirectory() as storage:
        folder = run_folder(Path(storage), "run")
        status = execute(config, folder, Console(file=io.StringIO()))
        if status.state != "finished":
            raise SystemExit(f"the search did not come to its end: {status.message}")
        with closing(Ledger(folder.ledger, 0, CHILDREN)) as ledger:
            return [(c.proposal.architecture.id, c.reward or 0.0) for c in ledger.history()]


def latest(children: Sequence[Found]) -> Points:
    """The best of each 400 children apart."""
    return [top_means(children[start : start + EVERY]) for start in range(0, len(children), EVERY)]


def table(runs: dict[SearcherName, list[list[Found]]], points: Callable[[list[Found]], Points]) -> str:
    """One row a point and searcher, and one for how much better the policy gradient is, seed by seed."""
    learnt, drawn = ([points(run) for run in runs[searcher]] for searcher in SEARCHERS)
    better = [
        [tuple(a - b for a, b in zip(*pair, strict=True)) for pair in zip(*both, strict=True)]
        for both in zip(learnt, drawn, strict=True)
    ]
    lines = [
        f"| children | search | {' | '.join(f'best {top}' for top in TOPS)} |",
        f"|---|---|{'---|' * len(TOPS)}",
    ]
    for place in range(CHILDREN // EVERY):
        for name, seeds in (("policy gradient", learnt), ("random", drawn), ("difference", better)):
            columns = zip(*(seed[place] for seed in seeds), strict=True)
            lines.append(f"| {(place + 1) * EVERY:,} | {name} | {' | '.join(map(spread, columns))} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """The median, and the lowest and highest."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(arguments: list[str]) -> None:
    """Run the searches and print both tables."""
    seeds = range(1, 1 + (int(arguments[0]) if arguments else SEEDS))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = {s: [pool.submit(found, s, seed) for seed in seeds] for s in SEARCHERS}
        runs = {searcher: [future.result() for future in futures] for searcher, futures in started.items()}
    print(f"Score of the synthetic task, at most 1; median of {len(seeds)} seeds (lowest to highest).\n")
    print(f"The best so far:\n\n{table(runs, course)}\n")
    print(f"The best of the latest {EVERY}:\n\n{table(runs, latest)}")


if __name__ == "__main__":
    main(sys.argv[1:])
