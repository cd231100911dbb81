"""The rehearsal at three sizes on this machine: processes, memory, start-up, children a second, pulls and pushes.

    python -m benchmarks.scale [repetitions [column ...]]

Each size is `nascluster launch rehearsal` with a Ray of its own, and children that are instant; the fourth has children
of 20 seconds, to measure how many train at once, and the last has a process for each worker, as on a real cluster, to
measure how fast those start. Columns (1 to 5) select sizes; the default is all. The processor time of each kind of
process shows what limits a size.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.exactly_once import isolated
from tests.chaos.machines import start_command

REPETITIONS = 3

TICK_S = 1 / os.sysconf("SC_CLK_TCK")

POLL_INTERVAL_S = 0.5
"""Seconds between two polls of the processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The size of a launch: shards (S), replicas (K) with 8 children each, and children in all."""

    shards: int
    replicas: int
    children: int
    child_seconds: float = 0.0
    alone: int = 0
    """Number of workers with a process each; 0 uses the default workers."""

    @property
    def words(self) -> list[str]:
        """The arguments of the command."""
        return [
            *("launch", "rehearsal", "--name", "run", "--shards", str(self.shards), "--replicas", str(self.replicas)),
            *("--max-children", str(self.children), "--child-seconds", f"{self.child_seconds:g}"),
            *(("--workers", str(self.alone), "--workers-per-process", "1") if self.alone else ()),
        ]

    def __str__(self) -> str:
        each = f", {self.child_seconds:g} s each" if self.child_seconds else ""
        alone = f", {self.alone} workers with a process each" if self.alone else ""
        return f"({self.shards}, {self.replicas}), {self.children:,} children{each}{alone}"


SIZES = (
    Size(shards=1, replicas=1, children=240),
    Size(shards=4, replicas=10, children=1_200),
    Size(shards=20, replicas=100, children=2_400),
    Size(shards=20, replicas=100, children=800, child_seconds=20.0),
    Size(shards=4, replicas=8, children=640, alone=64),
)


@dataclass(kw_only=True, slots=True)
class Processes:
    """Resource use of one environment's processes: peak memory, peak count, processor time by title."""

    home: str
    max_mb: float = 0.0
    max_count: int = 0
    seconds: dict[int, tuple[str, float]] = field(default_factory=dict)

    def poll(self) -> None:
        """Read the current figures of all processes."""
        processes = list(self._processes())
        self.max_mb = max(self.max_mb, sum(memory for *_, memory in processes))
        self.max_count = max(self.max_count, len(processes))
        for process, title, seconds, _ in processes:
            self.seconds[process] = title, seconds

    def _processes(self) -> Iterator[tuple[int, str, float, float]]:
        for folder in Path("/proc").iterdir():
            try:
                if not folder.name.isdigit() or f"HOME={self.home}\0".encode() not in (folder / "environ").read_bytes():
                    continue
                title = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                times = (folder / "stat").read_text().rpartition(")")[2].split()
                pages = (folder / "smaps_rollup").read_text()
            except OSError:  # the process has ended in the meantime
                continue
            shared_out = next(line for line in pages.splitlines() if line.startswith("Pss:"))
            seconds = (int(times[11]) + int(times[12])) * TICK_S
            yield int(folder.name), _kind(title), seconds, int(shared_out.split()[1]) / 1024

    def by_kind(self) -> dict[str, float]:
        """Return the processor seconds of each kind of process."""
        totals: dict[str, float] = defaultdict(float)
        for kind, seconds in self.seconds.values():
            totals[kind] += seconds
        return totals

    def actors(self) -> int:
        """Return the number of processes that hosted one of a run's actors."""
        return sum(kind.endswith("Host") or kind == "Worker" for kind, _ in self.seconds.values())


def _kind(title: str) -> str:
    if title.startswith("ray::"):
        return title.removeprefix("ray::").partition(".")[0].split()[0]
    return "the driver" if " -m cluster " in title else "Ray's own"


Figures = dict[str, float]


def measure(size: Size, *more: str, within: Mapping[str, str] | None = None) -> tuple[Figures, dict[str, float]]:
    """Run one size; return its figures and the processor seconds by kind of process.

    Args:
        size: the size.
        more: additional command-line options.
        within: the environment to run in; `None` creates an isolated one.
    """
    with isolated() if within is None else nullcontext(within) as environment:
        processes = Processes(home=environment["HOME"])
        started = time.time()
        run = start_command([*size.words, *more], environment, log=subprocess.DEVNULL)
        while run.poll() is None:
            processes.poll()
            time.sleep(POLL_INTERVAL_S)
        took = time.time() - started
        if run.returncode:
            raise SystemExit(f"the run {size} ended with status {run.returncode}")
        ledger = Path(environment["HOME"]) / "nascluster_runs" / "run" / "ledger.sqlite"
        with closing(sqlite3.connect(ledger)) as db:
            figures = _recorded(db, started)
    figures |= {"actors, a process each": processes.actors(), "processes": processes.max_count}
    figures |= {"memory, MB": processes.max_mb, "seconds in all": took}
    return figures, processes.by_kind()


def _recorded(db: sqlite3.Connection, started: float) -> Figures:
    def all_of(query: str) -> list[float]:
        return [row[0] for row in db.execute(query)]

    ended = sorted(all_of("SELECT ended_at FROM children"))
    first, last = len(ended) // 10, len(ended) * 9 // 10
    attempts = sorted(
        [(at, 1) for at in all_of("SELECT started_at FROM attempts")]
        + [(at, -1) for at in all_of("SELECT ended_at FROM attempts")]
    )
    workers = all_of("SELECT min(started_at) FROM attempts GROUP BY slot")
    figures = {
        "the first child in training after, s": min(all_of("SELECT started_at FROM attempts")) - started,
        "every replica has sampled after, s": max(all_of("SELECT min(sampled_at) FROM batches GROUP BY replica"))
        - started,
        "every worker has had a child after, s": max(workers) - started,
        "workers": len(workers),
        "children a second": (last - first) / (ended[last] - ended[first]),
        "children at once": max(_running_sums([step for _, step in attempts])),
    }
    for what in ("pull", "push"):
        times = sorted(all_of(f"SELECT {what}_seconds FROM batches WHERE {what}_seconds IS NOT NULL"))
        figures |= {f"{what} p50, ms": _quantile(times, 0.5) * 1e3, f"{what} p95, ms": _quantile(times, 0.95) * 1e3}
    return figures


def _running_sums(steps: Sequence[int]) -> Iterator[int]:
    total = 0
    for step in steps:
        total += step
        yield total


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(results: dict[str, list[Figures]]) -> str:
    """Format a Markdown table: figures by sizes, each the median with the range in brackets."""
    rows = [["(shards, replicas)", *results], ["---"] * (len(results) + 1)]
    for name in next(iter(results.values()))[0]:
        rows.append([name, *(_cell([figures[name] for figures in runs]) for runs in results.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(values: Sequence[float]) -> str:
    lowest, middle, highest = (_short(value) for value in (min(values), statistics.median(values), max(values)))
    return middle if lowest == highest else f"{middle} ({lowest} to {highest})"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def main(arguments: list[str]) -> None:
    """Measure every size; print the table and each kind of process's share of processor time."""
    repetitions = first_number(arguments, REPETITIONS)
    sizes = [SIZES[int(column) - 1] for column in arguments[1:]] or SIZES
    results: dict[str, list[Figures]] = {}
    shares: dict[str, Counter[str]] = {}
    for size in sizes:
        for _ in range(repetitions):
            figures, kinds = measure(size)
            results.setdefault(str(size), []).append(figures)
            shares.setdefault(str(size), Counter()).update(kinds)
        print(f"measured: {size}", file=sys.stderr, flush=True)
    print(table(results) + "\n")
    for size, kinds in shares.items():
        total: Any = sum(kinds.values())
        print(f"{size}: " + ", ".join(f"{kind} {share / total:.0%}" for kind, share in kinds.most_common(6)))


if __name__ == "__main__":
    main(command_words(__doc__))
