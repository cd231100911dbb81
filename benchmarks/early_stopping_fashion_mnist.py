"""What early stopping saves on Fashion-MNIST, and whether the same best child is found.

    python -m benchmarks.early_stopping_fashion_mnist [seeds] [DIR] [DATA]

With each seed a random search trains small children on 5 % of the training images, none of which is stopped. Each
rule then judges the children in their order, as it would have in the search: random search samples the same children
whatever becomes of others, and a child that is stopped has the beginning of its curve. The seconds that are left are
the same part of a child's as of its epochs, and those of one core that the decisions took. DIR keeps the searches, so
that the same command continues after an interruption; DATA has the files, which are else looked for in
$NASCLUSTER_DATA/fashion-mnist.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.command_words import words as command_words
from benchmarks.early_stopping import COMMON, RULES, Found, judged, print_table, seeds_of
from benchmarks.runs import children
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.runners.early_stopping import EarlyStopping, early_stopping
from controller.stopping.stopper import KnownCurve, ended_curves

CHILDREN = 48
"""Children of each search; each is trained for 8 epochs."""

SEARCH = (
    *("launch", "fashion-mnist", *COMMON, "--epochs", "8", "--strides", "2", "--num-filters", "8", "16", "24"),
    *("--filter-heights", "1", "3", "5", "--filter-widths", "1", "3", "5"),
)
"""Small children: three layers whose strides are 2."""


def rows(seeds: int, folder: Path, data: str) -> dict[str, list[Found]]:
    """Return what each rule leaves of each search."""
    results: dict[str, list[Found]] = {rule: [] for rule in RULES}
    for seed in range(1, seeds + 1):
        search = (*SEARCH, "--data", data)
        history = children(folder, f"fashion-mnist-{seed}", seed, search, CHILDREN)
        curves = list(ended_curves(history))
        seconds = {child.id: child.outcome.seconds for child in history if child.outcome}
        for rule, flags in RULES.items():
            config = parse_run(RECIPES["fashion-mnist"](), [*search[2:], *flags, "--seed", str(seed)], "fashion-mnist")
            results[rule].append(left_by(early_stopping(config), curves, seconds))
    return results


def left_by(stopping: EarlyStopping | None, curves: Sequence[KnownCurve], seconds: Mapping[int, float]) -> Found:
    """Return the figures of a search of which these children's whole curves and seconds are known."""
    known, begun = list(curves), time.process_time()
    if stopping is not None:
        known = judged(curves, stopping.stopper)
    deciding = time.process_time() - begun
    shares = [len(child.values) / len(whole.values) for child, whole in zip(known, curves, strict=True)]
    best = max(known, key=lambda child: (child.best, -child.child_id))
    return Found(
        stopped=sum(child.stopped for child in known),
        epochs=sum(len(child.values) for child in known),
        seconds=deciding + sum(share * seconds[child.child_id] for share, child in zip(shares, known, strict=True)),
        best=best.child_id,
        metric=best.best,
    )


def main(arguments: list[str]) -> None:
    """Search what is missing, and print the table."""
    seeds, shared = seeds_of(arguments), os.environ.get("NASCLUSTER_DATA")
    data = arguments[2] if len(arguments) > 2 else shared and f"{shared}/fashion-mnist"
    if not data or not Path(data).is_dir():
        print("Fashion-MNIST is not here: give its folder, or set NASCLUSTER_DATA")
        return
    place = contextlib.nullcontext(arguments[1]) if len(arguments) > 1 else tempfile.TemporaryDirectory()
    with place as folder:
        print_table(rows(seeds, Path(folder), data))


if __name__ == "__main__":
    main(command_words(__doc__))
