"""REINFORCE with and without an entropy bonus on several tables, against random search.

    python -m benchmarks.entropy_bonus [seeds] [DIR]

On NAS-Bench-201's three data sets (DIR has nasbench201.csv and the other files of docs/tables.md; by default
$NASCLUSTER_DATA/nasbench201; without them these rows are left out) and on additive tables of other sizes
(benchmarks/tables.py), with the settings of the recipe `nasbench201`. Printed is the accuracy of the best network, and
how many different networks were tried: a policy that settles early tries few, and its best one stays behind.
"""

import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from child_trainer import own_files
from cluster.compare.one_search import search
from cluster.compare.plan import Limit
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from controller.statistics import bootstrap_draws, bootstrap_interval

SEEDS = 30
BONUSES = (0.0, 0.001, 0.003)
"""The entropy bonuses that are compared, a nat."""

BUDGETS = (500, 1_000)
"""Children after which a search is judged."""

TABLES = Path(__file__).with_name("tables.py")

ADDITIVE = ((8, 3, 1.0, 0.01), (8, 3, 1.0, 0.002), (8, 4, 0.3, 0.002))
"""Layers and widths of the additive tables, the share of what is not additive, and the deviation."""

Figures = tuple[float, int]
"""Best accuracy in percent and different networks of the first children of a search, as many as a budget."""


def configurations(data: Path | None) -> Mapping[str, RunConfig]:
    """Return the settings of the searches by the table's name."""
    recipe = replace(RECIPES["nasbench201"](), local=True, max_children=BUDGETS[-1])
    found: dict[str, RunConfig] = {}
    if data is not None:
        found["NAS-Bench-201, CIFAR-10"] = replace(recipe, task=replace(recipe.task, data=data))
        for name, title in (("CIFAR100", "CIFAR-100"), ("IMAGENET16", "ImageNet16-120")):
            found[f"NAS-Bench-201, {title}"] = replace(recipe, task=TaskOptions(task=f"{TABLES}:{name}", data=data))
    chain: Any = own_files.load(f"{TABLES}:Chain")
    additive: Any = own_files.load(f"{TABLES}:AdditiveOptions")
    for layers, widths, share, deviation in ADDITIVE:
        found[f"additive, {widths**layers:,} networks, deviation {100 * deviation:g} %"] = replace(
            recipe,
            space=f"{TABLES}:Chain",
            space_options=chain(layers=layers, widths=widths),
            task=TaskOptions(
                task=f"{TABLES}:ADDITIVE",
                options=additive(sizes=(layers, widths), interaction=share, deviation=deviation),
            ),
        )
    return found


def figures_of(config: RunConfig) -> list[Figures]:
    """Run one search; return its figures for each budget."""
    torch.set_num_threads(1)
    result = search(config, Limit(children=BUDGETS[-1]), lambda: False)
    assert result is not None, "the search was not asked to stop"
    return [
        (100 * max(metric or 0.0 for metric in result.metrics[:budget]), len(set(result.architectures[:budget])))
        for budget in BUDGETS
    ]


def rows(title: str, searches: Mapping[str, Sequence[Sequence[Figures]]]) -> list[str]:
    """Return the rows of one table: for each searcher and budget the means over seeds."""
    draws = bootstrap_draws(len(next(iter(searches.values()))), 0)
    lines = []
    for place, budget in enumerate(BUDGETS):
        random = [seed[place][0] for seed in searches["random"]]
        for name, seeds in searches.items():
            best, tried = [seed[place][0] for seed in seeds], fmean(seed[place][1] for seed in seeds)
            ahead = bootstrap_interval([a - b for a, b in zip(best, random, strict=True)], draws)
            text = "" if name == "random" else f"{ahead.mean:+.3f} [{ahead.low:+.3f}, {ahead.high:+.3f}]"
            lines.append(f"| {title} | {budget:,} | {name} | {fmean(best):.3f} | {text} | {tried:.0f} |")
    return lines


def main(arguments: list[str]) -> None:
    """Run the searches and print the table."""
    count = first_number(arguments, SEEDS)
    root = os.environ.get("NASCLUSTER_DATA")
    data = Path(arguments[1]) if len(arguments) > 1 else Path(root) / "nasbench201" if root else None
    started = time.monotonic()
    print("| table | children | searcher | best accuracy, % | ahead of random | different networks |")
    print("|---|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        for title, base in configurations(data).items():
            entrants = {"random": base.with_searcher("random")}
            for bonus in BONUSES:
                options = replace(base.searcher_options, entropy_bonus=bonus)
                entrants[f"REINFORCE, bonus {bonus:g}"] = replace(base, searcher_options=options)
            running = {
                name: [pool.submit(figures_of, replace(config, seed=seed)) for seed in range(1, count + 1)]
                for name, config in entrants.items()
            }
            searches = {name: [future.result() for future in futures] for name, futures in running.items()}
            print("\n".join(rows(title, searches)), flush=True)
    print(f"\n{count} seeds; all searches took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main(command_words(__doc__))
