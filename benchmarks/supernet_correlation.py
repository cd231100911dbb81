"""How well small supernets of NAS-Bench-201's cells rank the cells, against the benchmark's table.

    python -m benchmarks.supernet_correlation [SEEDS] [FOLDER] [flags]

A supernet with one cell in each stage is trained on CIFAR-10 at 16 x 16 pixels, along one random path in each step.
Then `CELLS` random cells are scored with its weights. Printed is Kendall's tau of the scores with the test accuracy
after 200 epochs by the table, over these cells and within the best tenth, beside parameters and FLOPs. The flags are
those of `nascluster launch nasbench201-supernet`, for other sizes: `--supernet-steps 2000 --initial he`.

The data is in the folder that NASCLUSTER_DATA names. FOLDER keeps the runs, so that the same command continues after
an interruption; without it they are not kept.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import torch
from rich.console import Console
from torch.nn import functional as F

from benchmarks.command_words import words as command_words
from child_trainer.no_options import NoOptions
from child_trainer.outcome import Measure
from child_trainer.tasks.catalogue import check_task, load_task
from child_trainer.tasks.entry import ImageProblem, TaskEntry
from child_trainer.tasks.image import ImageTask
from child_trainer.training.image_classifier import Images
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES, configuration
from cluster.config.run_config import RunConfig
from cluster.correlation.measure import Request, measure
from cluster.correlation.report import PREDICTORS, Correlation, Correlations
from cluster.monitoring.status import read_status
from cluster.runners.driver import execute
from cluster.storage.find_run import run_folder

SEEDS = 3

CELLS = 120
"""Random cells that are scored; the best tenth are 12."""

VALIDATION = 1_000
"""Validation images that a cell is scored on."""

FLAGS = ("--supernet-steps", "5000")
"""What the runs have unless flags say otherwise; with the scores they took 231 s of CPU time, on a busy machine."""


def check(name: str, data: Path | None, options: NoOptions, *, download: bool) -> None:
    """Check CIFAR-10."""
    check_task("cifar10", data=data, download=download)


def load(name: str, data: Path | None, options: NoOptions, *, seed: int, device: str) -> ImageTask:
    """Return CIFAR-10 with images of half the height and width, and fewer of them to validate on."""
    task = load_task("cifar10", data=data, seed=seed, device=device)
    assert isinstance(task, ImageTask)
    images = task.validation
    few = Images(images.pixels[:VALIDATION], images.labels[:VALIDATION])
    return replace(task, name=name, training=_halved(task.training), validation=_halved(few))


def _halved(images: Images) -> Images:
    return Images(F.avg_pool2d(images.pixels.float(), 2).round().to(torch.uint8), images.labels)


HALVED = TaskEntry(
    summary="CIFAR-10 at 16 x 16 pixels",
    family="images",
    kinds=("feedforward",),
    measure=Measure.ACCURACY,
    problem=ImageProblem(shape=(3, 16, 16), classes=10),
    module=__name__,
)


def run(seed: int, folder: Path, data: Path, flags: Sequence[str]) -> tuple[Correlation, float]:
    """Train a supernet, unless the folder has it, and score cells; return the result and the CPU seconds of both."""
    begun = time.process_time()
    task = ("--task", f"{__file__}:HALVED", "--data", str(folder / "cifar10"))
    name = f"supernet-{seed}"
    own = ("--name", name, "--storage-path", str(folder), "--seed", str(seed), "--local", "--children", "1")
    recipe = configuration(RECIPES["nasbench201-supernet"], None)
    config: RunConfig = parse_run(recipe, [*task, *own, *FLAGS, *flags], "nasbench201-supernet")
    # One child that is scored ends the search; the cells are scored below.
    config = replace(config, max_children=config.searcher_options.training_children + 1)
    where, quiet = run_folder(folder, name), Console(quiet=True)
    if not where.config.exists() or read_status(where, time.time()).state != "finished":
        execute(where.read_config() if where.config.exists() else config, where, quiet)
    table = str(data / "nasbench201")
    request = Request(name=name, storage_path=str(folder), children=CELLS, seed=0, table=table, flags=())
    found = measure(request, quiet)
    assert isinstance(found, Correlation), "with a table nothing is trained"
    return found, time.process_time() - begun


def rows(found: Sequence[Correlation]) -> list[str]:
    """Return the rows of the table: for each predictor the means over the seeds, with their deviations."""
    columns = ("kendall", "spearman", "best_kendall", "best_spearman")
    made = []
    for key, (words, _) in PREDICTORS.items():
        each: list[Correlations] = [one.correlations[key] for one in found]
        values = [[getattr(one, column) or 0.0 for one in each] for column in columns]
        made.append(f"| {' | '.join([words, *map(_spread, values)])} |")
    return made


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 and stdev(values) > 0 else ""
    return f"{fmean(values):.2f}{spread}"


def main(seeds: int, folder: Path, data: Path, flags: Sequence[str]) -> None:
    images = folder / "cifar10"
    if not images.exists():
        subprocess.run([sys.executable, str(data / "cifar10-compact" / "unpack.py"), str(images)], check=True)
    found: list[Correlation] = []
    for seed in range(1, seeds + 1):
        correlation, seconds = run(seed, folder, data, flags)
        found.append(correlation)
        print(f"seed {seed}: {correlation.steps:,} steps, {seconds:.0f} s of CPU time", flush=True)
        print("\n".join(correlation.lines()), flush=True)
    print(f"\n{CELLS} cells, {found[0].steps:,} steps, {seeds} seeds:\n")
    print("| predictor | Kendall | Spearman | Kendall, best tenth | Spearman, best tenth |\n|---|---|---|---|---|")
    print("\n".join(rows(found)))


if __name__ == "__main__":
    words = command_words(__doc__)
    numbers = [int(words.pop(0))] if words and words[0].isdecimal() else []
    place = Path(words.pop(0)).absolute() if words and not words[0].startswith("-") else None
    root = os.environ.get("NASCLUSTER_DATA")
    if not root or not (Path(root) / "nasbench201").is_dir() or not (Path(root) / "cifar10-compact").is_dir():
        print("skipped: NASCLUSTER_DATA must name a folder with nasbench201/ and cifar10-compact/")
        sys.exit(0)
    with tempfile.TemporaryDirectory() as temporary:
        main((numbers or [SEEDS])[0], place or Path(temporary), Path(root), words)
