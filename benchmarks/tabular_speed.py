"""Children of a table per second of one core's time, by searcher.

    python -m benchmarks.tabular_speed [--before CHECKOUT] [--searches NAME ...] [repetitions] [DIR]

`nascluster launch nasbench201 --local` with its ledger and snapshots in memory if /dev/shm exists: once for few
children and once for many, each in a process of its own. The difference is the time of the additional children, without
the start. Times are processor times, including the system's work for the process, so that other work on the machine
counts little; wall-clock times are given as well. An earlier checkout of this repository takes turns with this one.

DIR has the table's files (docs/tables.md); the default is $NASCLUSTER_DATA/nasbench201.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command_words import checkout_folder
from benchmarks.nasbench201 import table_folder

SEARCHES = {
    "random": ("--searcher", "random"),
    "evolution": ("--searcher", "evolution"),
    "local-search": ("--searcher", "local-search"),
    "reinforce": ("--searcher", "reinforce"),
    "reinforce-16": ("--searcher", "reinforce", "--children", "16"),
    "ppo": ("--searcher", "ppo"),
    "grid": ("--searcher", "grid"),
    "q-learning": ("--searcher", "q-learning"),
    "progressive": ("--searcher", "progressive"),
    "bayesian": ("--searcher", "bayesian"),
}
"""By name, the options of each searcher that works on the table; of 16, with so many children to a step."""

REPETITIONS = 3
FEW, MANY = 200, 2_200
MEMORY = Path("/dev/shm")
HERE = Path(__file__).parents[1]

Rates = tuple[float, float]
"""Children per processor second and per wall-clock second."""


def seconds(search: str, children: int, seed: int, data: Path, checkout: Path) -> tuple[float, float]:
    """Run a whole search; return its processor seconds and wall-clock seconds."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as storage:
        words = ["launch", "nasbench201", "--local", "--name", "run", "--storage-path", storage, "--data", str(data)]
        words += [*SEARCHES[search], "--max-children", str(children), "--seed", str(seed)]
        before, started = _spent(), time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "cluster", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )
        return _spent() - before, time.monotonic() - started


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rates(search: str, seed: int, data: Path, checkout: Path) -> Rates:
    """Return the rates of the additional children of a search."""
    few, many = (seconds(search, children, seed, data, checkout) for children in (FEW, MANY))
    busy, passed = (more - less for more, less in zip(many, few, strict=True))
    return (MANY - FEW) / busy, (MANY - FEW) / passed


def table(measured: dict[tuple[str, str], list[Rates]]) -> str:
    """Format a Markdown table of medians with the lowest and highest values."""

    def cell(values: Sequence[float]) -> str:
        return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"

    lines = ["| search | code | per second of one core's time | per second of the clock |", "|---|---|---|---|"]
    for (search, code), speeds in measured.items():
        lines.append(f"| {search} | {code} | {' | '.join(map(cell, zip(*speeds, strict=True)))} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure each search with each checkout in turn, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tabular_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repetitions", type=int, nargs="?", default=REPETITIONS)
    parser.add_argument("folder", metavar="DIR", nargs="?")
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=checkout_folder, help="an earlier checkout to compare with"
    )
    parser.add_argument(
        "--searches", metavar="NAME", nargs="+", choices=SEARCHES, default=[*SEARCHES], help="default: all"
    )
    options = parser.parse_args(arguments)
    data = table_folder([str(options.repetitions), *([options.folder] if options.folder else [])])
    if data is None:
        return
    codes = ({"before": options.before} if options.before else {}) | {"now": HERE}
    measured: dict[tuple[str, str], list[Rates]] = {}
    for search in options.searches:
        for seed in range(1, options.repetitions + 1):
            for code, checkout in codes.items():
                found = rates(search, seed, data.resolve(), checkout)
                measured.setdefault((search, code), []).append(found)
                print(
                    f"{search}, {code}, seed {seed}: {found[0]:,.0f} and {found[1]:,.0f}", file=sys.stderr, flush=True
                )
    print(f"Children {FEW:,} to {MANY:,} of a search; medians of {options.repetitions} searches (lowest to highest).\n")
    print(table(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
