"""The LSTM against the published cell on WikiText-2: equal parameters, equal budget, several seeds.

    NASCLUSTER_DATA=DIR python -m benchmarks.language_models [seeds [learning rates]]

DIR holds the folder `wikitext-2`. The models are small, read a part of the text once and distinguish 5,000 words, so
that the figures allow comparing the two with each other, not with published ones. Each child is trained in a process
of its own with one thread, two at a time. The width follows from the parameters. Of the learning rates the best for
each cell is marked, by its median validation perplexity: the same rates are tried with both cells, and the best of
neither may be the lowest or the highest of them, and a sentence warns if it is. The first line gives the perplexity of
a model that knows only word frequencies: a cell that is not far below it has learned nothing from the text.
"""

import math
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.text_models import train_and_test
from child_trainer.architectures.reference_cells import REFERENCE_CELLS
from child_trainer.language_options import LanguageOptions
from child_trainer.networks.language_model import solved_width
from child_trainer.outcome import Cause
from child_trainer.tasks.entry import TEXT_BUDGET
from child_trainer.tasks.language import load, load_test_text

SEEDS = 3
RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
OPTIONS = LanguageOptions(
    target_parameters=500_000,
    tied_embeddings=True,
    max_vocabulary=5_000,
    embedding_dropout=0.0,
    variational_dropout=0.0,
)
# With 20 streams and no momentum, as `TEXT_BUDGET` has them, a child of minutes takes too few and too short steps: the
# published cell, whose layers begin with a far weaker signal than an LSTM's, does not get beyond words' frequencies.
BUDGET = replace(TEXT_BUDGET, epochs=1, train_fraction=0.12, batch_size=10, momentum=0.9)

Result = tuple[float, float, float, int, int]
"""Validation and test perplexity (infinite if it diverged), seconds, parameters, width."""


def trained(cell: str, rate: float, seed: int, data: Path) -> Result:
    """Train one child, and return its result."""
    torch.set_num_threads(1)
    task = load("wikitext2", data, OPTIONS, seed=seed, device="cpu")
    outcome, test = train_and_test(REFERENCE_CELLS[cell](), task, replace(BUDGET, learning_rate=rate), seed, data)
    if outcome.failure and outcome.failure.cause is not Cause.DIVERGED:
        raise SystemExit(f"{cell} failed: {outcome.failure}")
    width = solved_width(REFERENCE_CELLS[cell](), len(task.vocabulary), OPTIONS)
    validation = math.inf if outcome.failure else outcome.curve[-1]
    return validation, test, outcome.seconds, outcome.parameters or 0, width


def by_frequency(data: Path) -> tuple[float, float]:
    """Return validation and test perplexity of a model of word frequencies in the training part, add-one smoothed."""
    task = load("wikitext2", data, OPTIONS, seed=0, device="cpu")  # the texts do not depend on the seed
    part = task.training[: round(len(task.training) * BUDGET.train_fraction)]
    counts = torch.bincount(part, minlength=len(task.vocabulary)).double() + 1
    surprise = (counts.sum() / counts).log()
    validation, test = (surprise[text].mean().exp().item() for text in (task.validation, load_test_text(task, data)))
    return validation, test


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "diverged"
    return f"{value:.1f}" if value < 1e6 else f"{value:.0e}"  # still finite, but practically diverged


def _spread(values: list[float]) -> str:
    return f"{_figure(statistics.median(values))} ({_figure(min(values))} to {_figure(max(values))})"


def _table(results: dict[tuple[str, float], list[Result]], rates: list[float]) -> str:
    """Format a row for each cell and learning rate, and a warning for each best rate at the edge of the grid."""
    rows = [
        "| cell | units | parameters | learning rate | validation | test | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    best = {
        cell: min(rates, key=lambda r: statistics.median(result[0] for result in results[cell, r]))
        for cell in REFERENCE_CELLS
    }
    for (cell, rate), children in results.items():
        validation, test, seconds, parameters, units = zip(*children, strict=True)
        mark = " (best)" if rate == best[cell] else ""
        columns = " | ".join(map(_spread, (list(validation), list(test), list(seconds))))
        rows.append(f"| {cell} | {units[0]} | {parameters[0]:,} | {rate:g}{mark} | {columns} |")
    outside = [cell for cell, rate in best.items() if rate in (min(rates), max(rates))]
    return "\n".join(rows + [f"\nThe best learning rate of {cell} is at the edge of the grid." for cell in outside])


def _report(child: str, future: Future[Result]) -> None:
    """Print a line as soon as a child has ended, because each takes minutes."""
    if not future.cancelled() and not future.exception():
        validation, _, seconds, *_ = future.result()
        print(f"{child}: validation {_figure(validation)}, {seconds:.0f} s", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Train all children and print the table."""
    if not (root := os.environ.get("NASCLUSTER_DATA")) or not (data := Path(root) / "wikitext-2").is_dir():
        raise SystemExit("NASCLUSTER_DATA must name a folder that holds `wikitext-2`")
    seeds = range(1, 1 + first_number(arguments, SEEDS))
    rates = [float(rate) for rate in arguments[1:]] or list(RATES)
    started: dict[tuple[str, float], list[Future[Result]]] = {(c, r): [] for c in REFERENCE_CELLS for r in rates}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for (cell, rate), futures in started.items():
            for seed in seeds:
                futures.append(pool.submit(trained, cell, rate, seed, data))
                futures[-1].add_done_callback(partial(_report, f"{cell}, learning rate {rate:g}, seed {seed}"))
        results = {key: [future.result() for future in futures] for key, futures in started.items()}
    validation, test = by_frequency(data)
    print(
        f"Medians of {len(seeds)} seeds (lowest to highest); {BUDGET.train_fraction:.0%} of the text, once."
        f" By words' frequencies alone: validation {validation:.1f}, test {test:.1f}.\n"
    )
    print(_table(results, rates))


if __name__ == "__main__":
    main(command_words(__doc__))
