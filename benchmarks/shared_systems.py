"""Each system whose children share weights, by its small named run, against random search at equal cost.

    python -m benchmarks.shared_systems [seeds] [RESULTS] [RECIPE ...]

A search with shared weights gives an architecture, not a trained network. Its cost is the processor time of the whole
search, on one core. Random search has as much: it trains random architectures of the same space from scratch, for 10
epochs each on digits and 5 on text, and keeps the best by validation. Both winners are then trained from scratch alike,
for 20 and 15 epochs, with a seed that neither search has used. Printed is their validation accuracy, and on text, which
is Python's own manual, their test perplexity. RESULTS keeps each result, so that the same command continues after an
interruption; without it they are not kept.
"""

import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.text_models import train_and_test
from child_trainer.architectures.architecture import Architecture
from child_trainer.atomic_file import replace_file
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.seeding import derive
from child_trainer.tasks.language import LanguageTask
from child_trainer.training.task import Task
from child_trainer.training.train import train
from cluster.api.python_api import launch
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.trainer import loaded_task
from controller.space import SearchSpace, first_tokens
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.statistics import bootstrap_draws, bootstrap_interval

SEEDS, MIN_SEEDS = 3, 2

IMAGES = {
    "ENAS, macro": "enas-macro-digits",
    "ENAS, micro": "enas-micro-digits",
    "One-Shot": "one-shot-digits",
    "SMASH": "smash-digits",
    "DARTS": "darts-digits",
    "SNAS": "snas-digits",
    "ProxylessNAS": "proxyless-digits",
}
"""The small named run of each system that searches for networks of images."""

TEXTS = {"ENAS, recurrent": "enas-rnn", "DARTS, recurrent": "darts-rnn"}
"""Of each that searches for recurrent cells."""

SCRATCH_BUDGET = Budget(
    batch_size=32, learning_rate=20.0, momentum=0.0, weight_decay=8e-7, regime=Regime(clip_norm=0.25)
)
"""How a language model is trained from scratch: with the constants of DARTS's code, and smaller batches."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """How networks are trained from scratch, those of random search and both winners.

    Attributes:
        space: where random search draws.
        task: what all are trained on.
        budget: how; not for how many epochs.
        random_epochs: for which random search trains each of its children.
        last_epochs: for which both winners are trained.
        lower_is_better: whether that holds for what is measured.
    """

    space: SearchSpace
    task: Task
    budget: Budget
    random_epochs: int
    last_epochs: int
    lower_is_better: bool

    def validation(self, architecture: Architecture, seed: int) -> float:
        """Return the validation metric of a network after random search's epochs."""
        metric = train(architecture, self.task, replace(self.budget, epochs=self.random_epochs), seed=seed).metric
        return self._or_worst(metric)

    def last(self, architecture: Architecture, seed: int) -> float:
        """Return the accuracy on validation images, or the perplexity of the test text, of a winner."""
        budget = replace(self.budget, epochs=self.last_epochs)
        if isinstance(self.task, LanguageTask):
            return train_and_test(architecture, self.task, budget, seed, data=None)[1]
        return self._or_worst(train(architecture, self.task, budget, seed=seed).metric)

    def _or_worst(self, metric: float | None) -> float:
        return metric if metric is not None else math.inf if self.lower_is_better else 0.0


def contest(config: RunConfig) -> Contest:
    """Return how the networks of a run are compared."""
    task, space = loaded_task(config.task), config.search_space
    if not isinstance(task, LanguageTask):
        return Contest(
            space=space, task=task, budget=config.budget, random_epochs=10, last_epochs=20, lower_is_better=False
        )
    if isinstance(space, DartsRnnSpace):  # cells that share weights are normalised, those that are found are not
        space = replace(space, network="final")
    return Contest(space=space, task=task, budget=SCRATCH_BUDGET, random_epochs=5, last_epochs=15, lower_is_better=True)


Row = Callable[[str, str, Sequence[Mapping[str, float]]], str]
"""Makes a row of a table of a system, its recipe and its results."""


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
    rules = contest(config)
    rival, tried = _random_search(rules, seconds, seed)
    last = derive(seed, "last training")
    ours, theirs = (rules.last(winner, last) for winner in (rules.space.decode(best.tokens), rival))
    result = {"ours": ours, "random": theirs, "shared": best.metric, "seconds": seconds, "tried": tried}
    replace_file(stored, json.dumps(result).encode(), durable=False)
    return result


def _random_search(rules: Contest, seconds: float, seed: int) -> tuple[Architecture, int]:
    """Return the best of the random architectures that can be trained within the processor time, and their number."""
    rng = random.Random(derive(seed, "random search"))
    trained: list[tuple[float, Architecture]] = []
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        architecture = rules.space.decode(first_tokens(rules.space, len(trained), rng))
        metric = rules.validation(architecture, derive(seed, f"random child {len(trained)}"))
        trained.append((-metric if rules.lower_is_better else metric, architecture))
    return max(trained, key=lambda each: each[0])[1], len(trained)


def image_row(system: str, recipe: str, results: Sequence[Mapping[str, float]]) -> str:
    """Return a system's row of the table of accuracies in percent."""
    ours, theirs = ([100 * each[key] for each in results] for key in ("ours", "random"))
    return _row(system, recipe, results, (ours, theirs), [a - b for a, b in zip(ours, theirs, strict=True)])


def text_row(system: str, recipe: str, results: Sequence[Mapping[str, float]]) -> str:
    """Return a system's row of the table of perplexities; one that is ahead has a lower perplexity."""
    ours, theirs = ([each[key] for each in results] for key in ("ours", "random"))
    return _row(system, recipe, results, (ours, theirs), [b - a for a, b in zip(ours, theirs, strict=True)])


def _row(
    system: str,
    recipe: str,
    results: Sequence[Mapping[str, float]],
    metrics: tuple[Sequence[float], Sequence[float]],
    differences: Sequence[float],
) -> str:
    cells = [
        system,
        f"`{recipe}`",
        f"{fmean(each['seconds'] for each in results):.0f}",
        f"{fmean(each['tried'] for each in results):.0f}",
        *map(_spread, metrics),
        _lead(differences),
    ]
    return f"| {' | '.join(cells)} |"


def _spread(metrics: Sequence[float]) -> str:
    """Return the mean and the standard deviation of the winners that have not diverged, and how many have."""
    finite = [metric for metric in metrics if math.isfinite(metric)]
    words = f"{fmean(finite):.2f}" if finite else "-"
    if len(finite) > 1:
        words += f" ± {stdev(finite):.2f}"
    diverged = len(metrics) - len(finite)
    return f"{words} ({diverged} of {len(metrics)} diverged)" if diverged else words


def _lead(differences: Sequence[float]) -> str:
    """Return the mean difference and its interval; a dash where a winner has diverged."""
    if not all(map(math.isfinite, differences)):
        return "-"
    ahead = bootstrap_interval(differences, bootstrap_draws(len(differences), seed=0))
    return f"{ahead.mean:+.2f} [{ahead.low:+.2f}, {ahead.high:+.2f}]"


def _table(systems: Mapping[str, str], unit: str, row: Row, seeds: int, folder: Path, pool: Executor) -> None:
    """Run the searches that the folder lacks, and print a row for each system as soon as its searches have ended."""
    columns = f"random children | derived, {unit} | random search, {unit} | ahead [95 % interval]"
    print(f"| system | run | seconds | {columns} |")
    print("|---|---|---|---|---|---|---|")
    for system, recipe in systems.items():
        jobs = [pool.submit(measure, recipe, seed, folder) for seed in range(1, seeds + 1)]
        print(row(system, recipe, [job.result() for job in jobs]), flush=True)


def main(arguments: list[str]) -> None:
    """Run the searches and print the table."""
    seeds = first_number(arguments, SEEDS)
    if seeds < MIN_SEEDS:
        sys.exit(f"seeds must be at least {MIN_SEEDS}: the interval is over them, got {seeds}")
    chosen = arguments[2:] or [*IMAGES.values(), *TEXTS.values()]
    if unknown := sorted({*chosen} - {*IMAGES.values(), *TEXTS.values()}):
        known = ", ".join([*IMAGES.values(), *TEXTS.values()])
        sys.exit(f"a recipe must be one of {known}, got {', '.join(unknown)}")
    images, texts = ({name: recipe for name, recipe in each.items() if recipe in chosen} for each in (IMAGES, TEXTS))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[1]) if len(arguments) > 1 else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            if images:
                _table(images, "%", image_row, seeds, folder, pool)
                print("\nAccuracy on validation after training from scratch.\n")
            if texts:
                _table(texts, "perplexity", text_row, seeds, folder, pool)
                print("\nPerplexity of the test text after training from scratch; lower is better.\n")
    print(f"Seeds 1 to {seeds}; mean ± standard deviation.")


if __name__ == "__main__":
    main(command_words(__doc__))
