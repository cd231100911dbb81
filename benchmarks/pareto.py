"""Evolution by Pareto rank beside random search on NAS-Bench-201: accuracy against latency on a device.

    python -m benchmarks.pareto [seeds] [DIR] [DEVICE ...]

A search tries 1,000 of the 15,625 cells. DIR has the table's files (docs/tables.md); without it they are looked for in
$NASCLUSTER_DATA/nasbench201. Printed are the hypervolume of the children's front as a share of that of the table's,
after 200 children and after all, and how many cells of the table's front were found. The reference is the lowest
accuracy and the highest latency of the table's front, so that only cells that come near it count.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.nasbench201 import table_folder
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.lookup_table import Table
from child_trainer.tasks.nasbench201_options import NasBench201Options
from cluster.compare.one_search import MemoryLedger, make_trainer
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.local import take_turns
from controller.objectives import COSTS, point_of
from controller.pareto import Point, front, hypervolume

SEEDS = 10
CHILDREN, EARLY = 1_000, 200
DEVICES = ("pixel3", "raspi4", "1080ti_32", "fpga")
SEARCHERS = {"evolution": "--searcher evolution", "random": "--searcher random"}


def configuration(data: Path, device: str, seed: int, words: str) -> RunConfig:
    """Return the run of one search."""
    flags = f"--local --replicas 1 --max-children {CHILDREN} --objective accuracy --objective latency=min"
    common = ["--data", str(data), "--latency-device", device, "--seed", str(seed)]
    return parse_run(RECIPES["nasbench201"](), [*flags.split(), *common, *words.split()], "nasbench201")


def points_of_search(config: RunConfig, table: Table) -> list[Point]:
    """Return the objectives of a search's children, of which lower is better."""
    with closing(MemoryLedger(config)) as ledger:
        trainer = make_trainer(config, table)
        evaluator = InProcessEvaluator(
            trainer, ledger, config.failures.policy, batch_size=config.budget.batch_size, at_once=True
        )
        take_turns(config, None, [evaluator], ledger, lambda: False)
        points = [point_of(child, (COSTS["latency"],)) for child in ledger.ended]
    return [point for point in points if point is not None]


def figures_against(table: Sequence[Point]) -> Callable[[Sequence[Point]], tuple[float, ...]]:
    """Return the function from a search's points to what is printed of it: shares in percent, and a count."""
    best = [table[place] for place in front(table)]
    reference = tuple(map(max, zip(*best, strict=True)))
    whole = hypervolume(best, reference)

    def figures(points: Sequence[Point]) -> tuple[float, ...]:
        shares = [100 * hypervolume(points[:count], reference) / whole for count in (EARLY, CHILDREN)]
        return (*shares, float(len(set(map(tuple, points)) & set(map(tuple, best)))))

    return figures


def main(arguments: list[str]) -> None:
    """Run the searches and print the table."""
    seeds = int(arguments[0]) if arguments else SEEDS
    data = table_folder(arguments)
    if data is None:
        return
    if seeds < 2:
        raise SystemExit(f"give 2 seeds or more, as one has no deviation, got {seeds}")
    started = time.monotonic()
    print(f"| device | searcher | after {EARLY} children, % | after {CHILDREN:,}, % | cells of the front | of |")
    print("|---|---|---|---|---|---|")
    for device in arguments[2:] or DEVICES:
        table = load_task("nasbench201", data=data, options=NasBench201Options(latency_device=device))
        assert isinstance(table, Table)
        answers = [(answer.metric, answer.latency_ms) for answer in table.answers.values()]
        points = [(-metric, latency) for metric, latency in answers if metric is not None and latency is not None]
        figures = figures_against(points)
        for name, words in SEARCHERS.items():
            found = [
                figures(points_of_search(configuration(data, device, seed, words), table))
                for seed in range(1, seeds + 1)
            ]
            columns = " | ".join(_described(values) for values in zip(*found, strict=True))
            print(f"| {device} | {name} | {columns} | {len(front(points))} |", flush=True)
    print(f"\n{seeds} searches of {CHILDREN:,} children in each row; {time.monotonic() - started:.0f} s in all.")


def _described(values: Sequence[float]) -> str:
    """Return the mean, the deviation and the range of some figures."""
    spread = f"{min(values):.4g} to {max(values):.4g}"
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f} ({spread})"


if __name__ == "__main__":
    main(sys.argv[1:])
