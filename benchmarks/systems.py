"""Each published system on digits, by its small named run, against random search in the same space.

    python -m benchmarks.systems [seeds] [RESULTS] [RECIPE ...]

Printed is the validation accuracy of the best child, and how far it is ahead of random search with the same seed and
as many children. RESULTS keeps each search, so that the same command continues after an interruption; without it the
results are not kept. With recipes, only these are run. Of NEAT the children are counted until it has solved XOR, which
ends its search. Where children begin with the weights of others, each search is a run of its own below RESULTS.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from cluster.api.python_api import load
from cluster.cli.main import run as nascluster
from cluster.compare.comparison import plan_comparison, run_comparison
from cluster.compare.one_search import search
from cluster.compare.plan import Limit
from cluster.compare.search_result import SearchResult
from cluster.compare.standings import DRAWS_SEED
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.storage.find_run import run_folder
from controller.statistics import Interval, bootstrap_draws, bootstrap_interval

SEEDS, MIN_SEEDS = 3, 2

SYSTEMS = {
    "NASNet": "nasnet-digits",
    "AmoebaNet": "amoebanet-digits",
    "PNAS": "pnas-digits",
    "MetaQNN": "metaqnn-digits",
    "HNAS": "hnas-digits",
    "seed-agem": "seed-agem-digits",
    "EAS": "eas-digits",
    "EAS, DenseNets": "eas-dense-digits",
    "Path-level EAS": "path-eas-digits",
}
"""The small named run of each system."""

INHERITING = ("eas-digits", "eas-dense-digits", "path-eas-digits")
"""Those whose children begin with the weights of others, which need a run's folder."""

XOR = "neat-xor"
"""The run that ends by itself, of which the children are counted."""


def row(system: str, seeds: int, folder: Path) -> str:
    """Run one system's searches that the folder lacks; return its row of the table."""
    recipe = SYSTEMS[system]
    config = RECIPES[recipe]()
    limit = Limit(children=config.max_children)
    begun = time.monotonic()
    if recipe in INHERITING:
        ends = [_in_folders(recipe, seeds, folder, *words) for words in ((), ("--searcher", "random"))]
        differences = [ours - theirs for ours, theirs in zip(*ends, strict=True)]
        ahead = bootstrap_interval(differences, bootstrap_draws(seeds, DRAWS_SEED))
        (ours, deviation), (theirs, other) = ((statistics.fmean(each), statistics.stdev(each)) for each in ends)
        figures = (f"{config.max_children}", _percent(ours, deviation), _percent(theirs, other), _lead(ahead))
        return _row(system, recipe, figures, begun)
    plan, _ = plan_comparison(recipe, [config.searcher, "random"], ["--seed", "1"], seeds, limit)
    summary = run_comparison(plan, folder, len(os.sched_getaffinity(0)), Console(stderr=True))
    ours, random = summary.standings
    figures = (
        f"{ours.children:.0f}",
        _percent(ours.metric.at_end.mean, ours.metric.deviation),
        _percent(random.metric.at_end.mean, random.metric.deviation),
        _lead(ours.metric.ahead),
    )
    return _row(system, recipe, figures, begun)


def _in_folders(recipe: str, seeds: int, folder: Path, *words: str) -> list[float]:
    """Return the best metric of a whole run with each seed; those that the folder has are not run again."""
    best = list[float]()
    for seed in range(1, seeds + 1):
        name = f"{recipe}{'-random' if words else ''}-{seed}"
        place = ["--storage-path", str(folder)]
        with contextlib.redirect_stdout(sys.stderr):
            if not run_folder(folder, name).config.exists():
                code = nascluster(["launch", recipe, *words, "--local", "--seed", str(seed), "--name", name, *place])
            elif load(name, folder).status().state != "finished":
                code = nascluster(["resume", name, *place])
            else:
                code = 0
        found = load(name, folder).best
        if code or found is None:
            sys.exit(f"the run {name!r} did not end: see {folder / name}")
        best.append(found.metric)
    return best


def _row(system: str, recipe: str, figures: Sequence[str], begun: float) -> str:
    return f"| {' | '.join([system, f'`{recipe}`', *figures, f'{time.monotonic() - begun:.0f}'])} |"


def _percent(mean: float, deviation: float) -> str:
    return f"{100 * mean:.2f} ± {100 * deviation:.2f}"


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
    seeds = first_number(arguments, SEEDS)
    if seeds < MIN_SEEDS:
        sys.exit(f"seeds must be at least {MIN_SEEDS}: the deviation is over them, got {seeds}")
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
    main(command_words(__doc__))
