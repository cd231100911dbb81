"""How many children of a table a second of one core's time is enough for, by searcher.

    python -m benchmarks.tabular_speed [repetitions] [DIR]

`nascluster launch nasbench201 --local` as a user types it, with its ledger and snapshots in memory where there is a
/dev/shm: once for few children and once for many, each in a process of its own. What the second takes longer is the
time of the children between, without the start. Times are those of the processor, the system's work for the process
included, so that other work on the machine counts as little as may be; the clock's are beside them.

DIR has the table's files (docs/tables.md); without it they are looked for in $NASCLUSTER_DATA/nasbench201.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """What a whole search takes: of the processor, and of the clock."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as storage:
        words = ["launch", "nasbench201", "--local", "--name", "run", "--storage-path", storage, "--data", str(data)]
        words += [*SEARCHES[search], "--max-children", str(children), "--seed", str(seed)]
        before, begun = _spent(), time.monotonic()
        subprocess.run([sys.executable, "-m", "cluster", *words], check=True, stdout=subprocess.DEVNULL)
        return _spent() - before, time.monotonic() - begun


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rates(search: str, repetitions: int, data: Path) -> list[tuple[float, float]]:
    """Children in a second of the processor's time, and of the clock's, for each repetition and its seed."""
    found: list[tuple[float, float]] = []
    for seed in range(1, repetitions + 1):
        few, many = seconds(search, FEW, seed, data), seconds(search, MANY, seed, data)
        busy, passed = (more - less for more, less in zip(many, few, strict=True))
        found.append(((MANY - FEW) / busy, (MANY - FEW) / passed))
        print(f"{search}, seed {seed}: {found[-1][0]:,.0f} and {found[-1][1]:,.0f}", file=sys.stderr, flush=True)
    return found


def table(measured: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown: medians, and the lowest and highest."""

    def cell(values: tuple[float, ...]) -> str:
        return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"

    lines = ["| search | per second of one core's time | per second of the clock |", "|---|---|---|"]
    lines += [f"| {name} | {' | '.join(map(cell, zip(*found, strict=True)))} |" for name, found in measured.items()]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure each search, and print the table."""
    repetitions = int(arguments[0]) if arguments else REPETITIONS
    root = os.environ.get("NASCLUSTER_DATA")
    if len(arguments) < 2 and not root:
        print("Skipped: give the folder of NAS-Bench-201 as DIR, or its parent as NASCLUSTER_DATA")
        return
    data = Path(arguments[1]) if len(arguments) > 1 else Path(str(root)) / "nasbench201"
    measured = {search: rates(search, repetitions, data) for search in SEARCHES}
    print(f"Children {FEW:,} to {MANY:,} of a search; medians of {repetitions} searches (lowest to highest).\n")
    print(table(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
