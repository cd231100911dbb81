"""Each published system on digits, by its small named run, against random search in the same space.

    python -m benchmarks.systems [seeds] [RESULTS] [RECIPE ...]

Printed is the validation accuracy of the best child, and how far it is ahead of random search with the same seed and
as many children. RESULTS keeps each search, so that the same command continues after an interruption; without it the
results are not kept. With recipes, only these are run. Of NEAT the children are counted until it has solved XOR, which
ends its search.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cluster.compare.comparison import plan_comparison, run_comparison
from cluster.compare.one_search import search
from cluster.compare.plan import Limit
from cluster.compare.search_result import SearchResult
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from controller.statistics import Interval

SEEDS = 3

SYSTEMS = {
    "NASNet": "nasnet-digits",
    "AmoebaNet": "amoebanet-digits",
    "PNAS": "pnas-digits",
    "MetaQNN": "metaqnn-digits",
    "HNAS": "hnas-digits",
    "seed-agem": "seed-agem-digits",
}
"""The small named run of each system."""

XOR = "neat-xor"
"""The run that ends by itself, of which the children are counted."""


def row(system: str, seeds: int, folder: Path) -> str:
    """Run one system's searches that the folder lacks; return its row of the table."""
    recipe = SYSTEMS[system]
    config = RECIPES[recipe]()
    limit = Limit(children=config.max_children)
    begun = time.monotonic()
    plan, _ = plan_comparison(recipe, [config.searcher, "random"], ["--seed", "1"], seeds, limit)
    summary = run_comparison(plan, folder, len(os.sched_getaffinity(0)), Console(stderr=True))
    ours, random = summary.standings
    cells = [
        system,
        f"`{recipe}`",
        f"{ours.children:.0f}",
        _percent(ours.metric.at_end, ours.metric.deviation),
        _percent(random.metric.at_end, random.metric.deviation),
        _lead(ours.metric.ahead),
        f"{time.monotonic() - begun:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(interval: Interval, deviation: float) -> str:
    return f"{100 * interval.mean:.2f} ± {100 * deviation:.2f}"


def _lead(ahead: Interval | None) -> str:
    return "" if ahead is None else f"{100 * ahead.mean:+.2f} [{100 * ahead.low:+.2f}, {100 * ahead.high:+.2f}]"


def xor(seeds: int) -> str:
    """Return how many children NEAT needs for XOR, and the fitness that it and random genomes reach, as a sentence."""
    recipe = replace(RECIPES[XOR](), local=True)
    counts: list[int] = []
    best: dict[str, list[float]] = {"neat": [], "random": []}
    for seed in range(1, seeds + 1):
        ours = _search(replace(recipe, seed=seed))
        counts.append(len(ours.metrics))
        random = _search(replace(recipe.with_searcher("random"), seed=seed, max_children=counts[-1]))
        for name, result in (("neat", ours), ("random", random)):
            best[name].append(max(metric for metric in result.metrics if metric is not None))
    fitness = {name: ", ".join(f"{value:.1f}" for value in each) for name, each in best.items()}
    return (
        f"NEAT solved XOR, and ended, after {', '.join(f'{count:,}' for count in counts)} children of at most"
        f" {recipe.max_children:,}, with the fitness {fitness['neat']}; as many random genomes reach"
        f" {fitness['random']}."
    )


def _search(config: RunConfig) -> SearchResult:
    result = search(config, Limit(children=config.max_children), lambda: False)
    assert result is not None, "nothing asked for a stop"
    return result


def main(arguments: list[str]) -> None:
    """Run the searches and print the table."""
    seeds = int(arguments[0]) if arguments else SEEDS
    chosen = arguments[2:]
    if unknown := sorted({*chosen} - {*SYSTEMS.values(), XOR}):
        sys.exit(f"a recipe must be one of {', '.join([*SYSTEMS.values(), XOR])}, got {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[1]) if len(arguments) > 1 else Path(temporary)
        print("| system | run | children | best, % | random search, % | ahead [95 % interval] | seconds |")
        print("|---|---|---|---|---|---|---|")
        for system, recipe in SYSTEMS.items():
            if not chosen or recipe in chosen:
                print(row(system, seeds, folder), flush=True)
    print(f"\nSeeds 1 to {seeds}; accuracy on validation, mean ± standard deviation over seeds.")
    if not chosen or XOR in chosen:
        print(f"\n{xor(seeds)}")


if __name__ == "__main__":
    main(sys.argv[1:])
