"""Random search, local search, aging evolution and REINFORCE on NAS-Bench-201 with the benchmark paper's budget.

    python -m benchmarks.nasbench201 [seeds] [DIR]

CIFAR-10, 12,000 simulated seconds a search: some 105 children. DIR has the table's files (docs/tables.md); without it
they are looked for in $NASCLUSTER_DATA/nasbench201. Prints the comparison with the published rows (Dong & Yang 2020,
arXiv 2001.00326, table 5) below it; docs/compare.md says what differs in protocol, and how the options were found.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from cluster.compare.comparison import plan_comparison, run_comparison
from cluster.compare.markdown_table import markdown
from cluster.compare.plan import Limit

SEEDS = 400
"""Of 100 seeds the means still vary by 0.04 (their standard error), as much as some searchers differ by."""

FIRST_SEED = 1
"""The options were chosen on the seeds 1000 to 1029, by the validation accuracy."""

PLAIN = "reinforce:children=1,controller-learning-rate=0.01,entropy-bonus=0"
"""One child per step, without an entropy bonus against premature convergence."""

TUNED = "reinforce:children=4,controller-learning-rate=0.04,entropy-bonus=0.02"
"""The tuned options: four children per step, larger steps, and an entropy bonus."""

EVOLUTION = "evolution"

FLAGS = (
    *("--replicas", "1", "--shards", "1", "--baseline-decay", "0.9"),
    # Some 100 children are too few for the usual population of 100.
    *("--population", "10", "--tournament", "3", "--unchanged", "0"),
)

PUBLISHED = {
    "published: REINFORCE": "93.85 ± 0.37",
    "published: aging evolution": "93.92 ± 0.30",
    "published: random": "93.70 ± 0.36",
    "published: optimum": "94.37",
}
"""Test accuracies, in percent."""


def table_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder of NAS-Bench-201: the second argument, or a folder in that of NASCLUSTER_DATA.

    Without either it is said what to give, and `None` is returned.
    """
    if len(arguments) > 1:
        return Path(arguments[1])
    if root := os.environ.get("NASCLUSTER_DATA"):
        return Path(root) / "nasbench201"
    print("Skipped: give the folder of NAS-Bench-201 as DIR, or its parent as NASCLUSTER_DATA")
    return None


def main(arguments: list[str]) -> None:
    """Run the searches and print the tables."""
    seeds = first_number(arguments, SEEDS)
    data = table_folder(arguments)
    if data is None:
        return
    flags = [*FLAGS, "--data", str(data), "--seed", str(FIRST_SEED)]
    started = time.monotonic()
    searchers = [PLAIN, TUNED, EVOLUTION, "local-search", "random"]
    plan, table = plan_comparison("nasbench201", searchers, flags, seeds, Limit(seconds=12_000.0))
    with tempfile.TemporaryDirectory() as folder:
        summary = run_comparison(plan, Path(folder), len(os.sched_getaffinity(0)), Console(stderr=True), table)
    print(markdown(summary))
    print("| published | test accuracy, % |\n| --- | --- |")
    for name, accuracy in PUBLISHED.items():
        print(f"| {name.removeprefix('published: ')} | {accuracy} |")
    print(f"\n{len(plan.entrants) * seeds:,} searches took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main(command_words(__doc__))
