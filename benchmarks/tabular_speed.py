"""Children of a table per second of one core's time, by searcher.

    python -m benchmarks.tabular_speed [repetitions] [DIR]

`nascluster launch nasbench201 --local` with its ledger and snapshots in memory if /dev/shm exists: once for few
children and once for many, each in a process of its own. The difference is the time of the additional children, without
the start. Times are processor times, including the system's work for the process, so that other work on the machine
counts little; wall-clock times are given as well.

DIR has the table's files (docs/tables.md); the default is $NASCLUSTER_DATA/nasbench201.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.nasbench201 import table_folder

SEARCHES = {
    "random": ("--searcher", "random"),
    "evolution": ("--searcher", "evolution"),
    "local search": ("--searcher", "local-search"),
    "REINFORCE": ("--searcher", "reinforce"),
    "REINFORCE, 16 children to a step": ("--searcher", "reinforce", "--children", "16"),
}
REPETITIONS = 3
FEW, MANY = 200, 2_200
MEMORY = Path("/dev/shm")


def seconds(search: str, children: int, seed: int, data: Path) -> tuple[float, float]:
    """Run a whole search; return its processor seconds and wall-clock seconds."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as storage:
        words = ["launch", "nasbench201", "--local", "--name", "run", "--storage-path", storage, "--data", str(data)]
        words += [*SEARCHES[search], "--max-children", str(children), "--seed", str(seed)]
        before, started = _spent(), time.monotonic()
        subprocess.run([sys.executable, "-m", "cluster", *words], check=True, stdout=subprocess.DEVNULL)
        return _spent() - before, time.monotonic() - started


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rates(search: str, repetitions: int, data: Path) -> list[tuple[float, float]]:
    """Return children per processor second and per wall-clock second for each repetition and its seed."""
    speeds: list[tuple[float, float]] = []
    for seed in range(1, repetitions + 1):
        few, many = seconds(search, FEW, seed, data), seconds(search, MANY, seed, data)
        busy, passed = (more - less for more, less in zip(many, few, strict=True))
        speeds.append(((MANY - FEW) / busy, (MANY - FEW) / passed))
        print(f"{search}, seed {seed}: {speeds[-1][0]:,.0f} and {speeds[-1][1]:,.0f}", file=sys.stderr, flush=True)
    return speeds


def table(measured: dict[str, list[tuple[float, float]]]) -> str:
    """Format a Markdown table of medians with the lowest and highest values."""

    def cell(values: tuple[float, ...]) -> str:
        return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"

    lines = ["| search | per second of one core's time | per second of the clock |", "|---|---|---|"]
    lines += [f"| {name} | {' | '.join(map(cell, zip(*speeds, strict=True)))} |" for name, speeds in measured.items()]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure each search, and print the table."""
    repetitions = first_number(arguments, REPETITIONS)
    data = table_folder(arguments)
    if data is None:
        return
    measured = {search: rates(search, repetitions, data) for search in SEARCHES}
    print(f"Children {FEW:,} to {MANY:,} of a search; medians of {repetitions} searches (lowest to highest).\n")
    print(table(measured))


if __name__ == "__main__":
    main(command_words(__doc__))
