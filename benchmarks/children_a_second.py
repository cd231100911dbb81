"""Instant children a second on this machine with Ray, and the processor time of each, beside an earlier checkout.

    python -m benchmarks.children_a_second [--before CHECKOUT] [repetitions]

`nascluster launch rehearsal` at (4 shards, 10 replicas) and (20, 100), with 8 children each. What is counted lies
between two moments of one search, when all processes are up and before the first of them ends. The checkouts take
turns. The processor time is of the run's own processes: other work on the machine counts less than by the clock.
"""

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command_words import checkout_folder
from benchmarks.exactly_once import isolated
from benchmarks.scale import Processes

REPETITIONS = 3

POLL_INTERVAL_S = 0.1

HERE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Size:
    """A launch, and between which counts of ended children it is measured."""

    shards: int
    replicas: int
    first: int
    last: int

    @property
    def words(self) -> list[str]:
        """The arguments of the command: it goes on for a while after the last child that is counted."""
        size = ["--shards", str(self.shards), "--replicas", str(self.replicas)]
        return ["launch", "rehearsal", "--name", "run", *size, "--max-children", str(self.last + 10 * self.replicas)]


SIZES = (Size(4, 10, 300, 1_500), Size(20, 100, 900, 2_900))


@dataclass(frozen=True, slots=True)
class Speed:
    """Children a second of the clock, and processor milliseconds of a child by kind of process."""

    rate: float
    milliseconds: Counter[str]


def measure(size: Size, checkout: Path) -> Speed:
    """Run one search of this checkout until the last child that is counted has ended."""
    with isolated() as environment:
        processes = Processes(home=environment["HOME"])
        ledger = Path(environment["HOME"]) / "nascluster_runs" / "run" / "ledger.sqlite"
        run = subprocess.Popen(
            [sys.executable, "-m", "cluster", *size.words],
            env={**environment, "PYTHONPATH": str(checkout)},
            cwd=checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        try:
            moments = [_moment(run, ledger, count, processes) for count in (size.first, size.last)]
        finally:
            run.terminate()
            run.wait()
    (began, before, first), (ended, after, last) = moments
    spent = {kind: 1e3 * (after[kind] - before.get(kind, 0.0)) / (last - first) for kind in after}
    return Speed((last - first) / (ended - began), Counter(spent))


def _moment(
    run: "subprocess.Popen[bytes]", ledger: Path, count: int, processes: Processes
) -> tuple[float, dict[str, float], int]:
    """Return the time, each kind's processor seconds, and how many children have ended, once `count` have."""
    while (ended := _ended(ledger)) < count:
        if run.poll() is not None:
            raise SystemExit(f"the search ended with status {run.returncode} before {count} children had")
        time.sleep(POLL_INTERVAL_S)
    now = time.time()
    processes.poll()
    return now, processes.by_kind(), ended


def _ended(ledger: Path) -> int:
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute("SELECT count(completion) FROM children").fetchone()[0]
    return 0


def table(measured: dict[tuple[Size, str], list[Speed]]) -> str:
    """Format a Markdown table of medians, with the lowest and the highest in brackets."""
    titles = ("(shards, replicas)", "code", "children a second", "processor time of a child, ms", "of it")
    rows: list[Sequence[str]] = [titles, ["---"] * len(titles)]
    for (size, code), speeds in measured.items():
        rates, totals = [speed.rate for speed in speeds], [speed.milliseconds.total() for speed in speeds]
        kinds = sorted(speeds[0].milliseconds, key=lambda kind: -_median(speeds, kind))[:5]
        parts = ", ".join(f"{kind} {_median(speeds, kind):.1f}" for kind in kinds)
        rows.append((f"({size.shards}, {size.replicas})", code, _cell(rates, 0), _cell(totals, 1), parts))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _median(speeds: Sequence[Speed], kind: str) -> float:
    return statistics.median(speed.milliseconds[kind] for speed in speeds)


def _cell(values: Sequence[float], digits: int) -> str:
    lowest, middle, highest = (f"{one:,.{digits}f}" for one in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({lowest} to {highest})"


def main(arguments: list[str]) -> None:
    """Measure each size with each checkout in turn, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.children_a_second")
    parser.add_argument("repetitions", type=int, nargs="?", default=REPETITIONS)
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=checkout_folder, help="an earlier checkout to compare with"
    )
    options = parser.parse_args(arguments)
    codes = ({"before": options.before} if options.before else {}) | {"now": HERE}
    measured: dict[tuple[Size, str], list[Speed]] = {}
    for size in SIZES:
        for _ in range(options.repetitions):
            for code, checkout in codes.items():
                measured.setdefault((size, code), []).append(measure(size, checkout))
                print(f"measured: {size}, {code}", file=sys.stderr, flush=True)
    print(f"{os.cpu_count()} cores; medians of {options.repetitions} searches (lowest to highest).\n")
    print(table(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
