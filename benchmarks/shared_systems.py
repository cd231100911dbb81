"""Each system whose children share weights on digits, by its small named run, against random search at equal cost.

    python -m benchmarks.shared_systems [seeds] [RESULTS] [SYSTEM ...]

A search with shared weights gives an architecture, not a trained network. Its cost is the processor time of the whole
search, on one core. Random search has as much: it trains random architectures of the same space from scratch, for 10
epochs each, and keeps the best. Both winners are then trained from scratch alike, for 20 epochs with a seed that
neither search has used. Printed is their validation accuracy. RESULTS keeps each result, so that the same command
continues after an interruption; without it they are not kept.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from child_trainer.architectures.architecture import Architecture
from child_trainer.atomic_file import replace_file
from child_trainer.outcome import Budget, Outcome
from child_trainer.seeding import derive
from child_trainer.training.task import Task
from child_trainer.training.train import train
from cluster.config.recipes import RECIPES
from cluster.runners.python_api import launch
from cluster.runners.trainer import loaded_task
from controller.space import SearchSpace, first_tokens
from controller.statistics import bootstrap_draws, bootstrap_interval

SEEDS, MIN_SEEDS = 3, 2

SYSTEMS = {
    "ENAS, macro": "enas-macro-digits",
    "ENAS, micro": "enas-micro-digits",
    "One-Shot": "one-shot-digits",
    "SMASH": "smash-digits",
    "DARTS": "darts-digits",
    "SNAS": "snas-digits",
    "ProxylessNAS": "proxyless-digits",
}
"""The small named run of each system."""

RANDOM_EPOCHS, LAST_EPOCHS = 10, 20
"""Epochs for which random search trains each of its children, and for which both winners are trained."""


def measure(recipe: str, seed: int, folder: Path) -> dict[str, float]:
    """Run one system's search, random search at its cost, and the training of both winners; reuse what is stored."""
    stored = folder / f"{recipe}-{seed}.json"
    if stored.exists():
        return json.loads(stored.read_text())
    config = replace(RECIPES[recipe](), seed=seed, name="search", local=True)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as storage:
        best = launch(replace(config, storage_path=storage), show=False).best
    seconds = time.process_time() - begun
    assert best is not None, "no child has finished"
    task = loaded_task(config.task)
    rival, tried = _random_search(config.search_space, task, config.budget, seconds, seed)
    ours = _accuracy(Architecture.from_json(best.graph), task, config.budget, seed)
    theirs = _accuracy(rival, task, config.budget, seed)
    result = {"ours": ours, "random": theirs, "shared": best.metric, "seconds": seconds, "tried": tried}
    replace_file(stored, json.dumps(result).encode(), durable=False)
    return result


def _random_search(
    space: SearchSpace, task: Task, budget: Budget, seconds: float, seed: int
) -> tuple[Architecture, int]:
    """Return the best of the random architectures that can be trained within the processor time, and their number."""
    rng = random.Random(derive(seed, "random search"))
    trained: list[tuple[float, Architecture]] = []
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        architecture = space.decode(first_tokens(space, len(trained), rng))
        outcome = _train(architecture, task, budget, RANDOM_EPOCHS, derive(seed, f"random child {len(trained)}"))
        trained.append((outcome.metric or 0.0, architecture))
    return max(trained, key=lambda each: each[0])[1], len(trained)


def _accuracy(architecture: Architecture, task: Task, budget: Budget, seed: int) -> float:
    metric = _train(architecture, task, budget, LAST_EPOCHS, derive(seed, "last training")).metric
    return metric or 0.0


def _train(architecture: Architecture, task: Task, budget: Budget, epochs: int, seed: int) -> Outcome:
    return train(architecture, task, replace(budget, epochs=epochs), seed=seed)


def row(system: str, recipe: str, results: Sequence[Mapping[str, float]]) -> str:
    """Return a system's row of the table."""
    ours, theirs = ([100 * each[key] for each in results] for key in ("ours", "random"))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    ahead = bootstrap_interval(differences, bootstrap_draws(len(differences), seed=0))
    cells = [
        system,
        f"`{recipe}`",
        f"{fmean(each['seconds'] for each in results):.0f}",
        f"{fmean(each['tried'] for each in results):.0f}",
        _percent(ours),
        _percent(theirs),
        f"{ahead.mean:+.2f} [{ahead.low:+.2f}, {ahead.high:+.2f}]",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main(arguments: list[str]) -> None:
    """Run the searches and print the table."""
    seeds = int(arguments[0]) if arguments else SEEDS
    if seeds < MIN_SEEDS:
        sys.exit(f"seeds must be at least {MIN_SEEDS}: the interval is over them, got {seeds}")
    systems = {name: recipe for name, recipe in SYSTEMS.items() if not arguments[2:] or recipe in arguments[2:]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[1]) if len(arguments) > 1 else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| system | run | seconds | random children | derived, % | random search, % | ahead [95 % interval] |")
        print("|---|---|---|---|---|---|---|")
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for system, recipe in systems.items():
                jobs = [pool.submit(measure, recipe, seed, folder) for seed in range(1, seeds + 1)]
                print(row(system, recipe, [job.result() for job in jobs]), flush=True)
    print(f"\nSeeds 1 to {seeds}; accuracy on validation after training from scratch, mean ± standard deviation.")


if __name__ == "__main__":
    main(sys.argv[1:])
