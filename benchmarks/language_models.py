"""The LSTM against the published cell on WikiText-2: equal parameters, equal budget, several seeds.

    NASCLUSTER_DATA=DIR python -m benchmarks.language_models [seeds]

DIR holds the folder `wikitext-2`. The models are small, see a part of the text only and tell 10,000 words apart, so
that the figures are for comparing the two with each other, not with published ones. Each child is trained in a process
of its own with one thread, two at a time. The width follows from the parameters; of three learning rates the best for
each cell is marked, by its validation perplexity.
"""

import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from child_trainer.language_model import LanguageModel
from child_trainer.language_options import LanguageOptions
from child_trainer.reference_cells import REFERENCE_CELLS
from child_trainer.tasks.language import LanguageTask, load, load_test
from child_trainer.tasks.summaries import TEXT_BUDGET
from child_trainer.train import train

SEEDS = 3
RATES = (1.0, 2.0, 4.0)
OPTIONS = LanguageOptions(
    target_parameters=1_000_000,
    tied_embeddings=True,
    max_vocabulary=10_000,
    embedding_dropout=0.0,
    variational_dropout=0.0,
)
BUDGET = replace(TEXT_BUDGET, epochs=3, train_fraction=0.05)

Result = tuple[float, float, float, int, int]
"""Validation and test perplexity, seconds, parameters, width."""


def trained(cell: str, rate: float, seed: int, data: Path) -> Result:
    """One child."""
    torch.set_num_threads(1)
    task = load("wikitext2", data, OPTIONS)
    models: list[LanguageModel] = []

    class Watched(LanguageTask):
        """Keeps the model that is trained, which an outcome does not hold."""

        def perplexity(self, model: LanguageModel, text: torch.Tensor) -> float:
            models[:] = [model]
            return super().perplexity(model, text)

    watched = Watched(**{name: getattr(task, name) for name in task.__dataclass_fields__})
    outcome = train(REFERENCE_CELLS[cell](), watched, replace(BUDGET, learning_rate=rate), seed=seed)
    if outcome.failure:
        raise SystemExit(f"{cell} failed: {outcome.failure}")
    test = task.perplexity(models[0], load_test(task, data))
    return outcome.curve[-1], test, outcome.seconds, outcome.parameters or 0, models[0].hidden_size


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main(arguments: list[str]) -> None:
    """Train them all and print the table."""
    if not (root := os.environ.get("NASCLUSTER_DATA")) or not (data := Path(root) / "wikitext-2").is_dir():
        raise SystemExit("NASCLUSTER_DATA must name a folder that holds `wikitext-2`")
    seeds = range(1, 1 + (int(arguments[0]) if arguments else SEEDS))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        started = {
            (cell, rate): [pool.submit(trained, cell, rate, seed, data) for seed in seeds]
            for cell in REFERENCE_CELLS
            for rate in RATES
        }
        found = {key: [future.result() for future in futures] for key, futures in started.items()}
    print(
        f"Medians of {len(seeds)} seeds (lowest to highest); {BUDGET.epochs} epochs of {BUDGET.train_fraction:.0%}.\n"
    )
    print("| cell | units | parameters | learning rate | validation | test | seconds |\n|---|---|---|---|---|---|---|")
    for (cell, rate), results in found.items():
        validation, test, seconds, parameters, units = zip(*results, strict=True)
        chosen = min(RATES, key=lambda r: statistics.median(one[0] for one in found[cell, r]))
        mark = " (best)" if rate == chosen else ""
        columns = " | ".join(map(_spread, (list(validation), list(test), list(seconds))))
        print(f"| {cell} | {units[0]} | {parameters[0]:,} | {rate:g}{mark} | {columns} |")


if __name__ == "__main__":
    main(sys.argv[1:])
