"""How long a launch takes until its first child's outcome is recorded, and the processor seconds of the whole launch.

    python -m benchmarks.first_outcome [--before CHECKOUT] [repetitions]

The recipe `synthetic`, 4 instant children, in one process (`--local`) and on a Ray of its own: nothing takes time but
the start. With a checkout of another state of the code, `git worktree add DIR COMMIT`, both are measured in turn, by
the same Python. Python may keep what it has compiled, as it does unless `PYTHONDONTWRITEBYTECODE` is set, and each
code has run once before. Times are from the start of the process to the end of the first attempt in the ledger.
"""

import argparse
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from benchmarks.command_words import checkout_folder
from benchmarks.exactly_once import isolated

REPETITIONS = 5
WORDS = ["launch", "synthetic", "--max-children", "4", "--name", "first"]
WAYS = {"--local": ["--local"], "Ray": []}
MARK = "NASCLUSTER_FIRST_OUTCOME"
"""Environment variable by which a launch's processes are found."""

POLL_INTERVAL_S = 0.1


def processor_seconds(mark: str, used: dict[str, float]) -> None:
    """Note in `used` the processor seconds until now of each live process with this mark, by its id."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                used[folder.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one(code: Path, way: str) -> tuple[float, float]:
    """Launch once with the code in this folder; return the seconds to the first outcome and the processor seconds."""
    mark, used = secrets.token_hex(8), {}
    with isolated() as environment:
        variables: Mapping[str, str] = {**environment, MARK: mark, "PYTHONPATH": str(code), "RAY_ADDRESS": "local"}
        variables = {name: value for name, value in variables.items() if name != "PYTHONDONTWRITEBYTECODE"}
        program = "from cluster.cli.main import main; main()"
        command = [sys.executable, "-P", "-c", program, *WORDS, *WAYS[way]]
        began = time.time()
        launched = subprocess.Popen(command, cwd=code, env=variables, stdout=subprocess.DEVNULL)
        while launched.poll() is None:
            processor_seconds(mark, used)
            time.sleep(POLL_INTERVAL_S)
        if launched.returncode:
            raise SystemExit(f"the launch with the code in {code} has failed")
        ledger = Path(environment["HOME"]) / "nascluster_runs" / "first" / "ledger.sqlite"
        with closing(sqlite3.connect(ledger)) as db:
            return db.execute("SELECT min(ended_at) FROM attempts").fetchone()[0] - began, sum(used.values())


def spread(values: list[float]) -> str:
    """Format the median, the least and the most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main(arguments: list[str]) -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_outcome",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repetitions", nargs="?", type=int, default=REPETITIONS, help=f"default: {REPETITIONS}")
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=checkout_folder, help="an earlier checkout to compare with"
    )
    options = parser.parse_args(arguments)
    codes = ({"before": options.before} if options.before else {}) | {"now": Path(__file__).parents[1]}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repetition in range(options.repetitions + 1):
        for way in WAYS:
            for name, code in codes.items():
                result = one(code, way)
                if repetition:
                    found.setdefault((way, name), []).append(result)
                print(f"{way}, {name}: {result[0]:.1f} s, {result[1]:.1f} s", file=sys.stderr, flush=True)
    print("| launch | code | first outcome after, s | processor seconds |\n|---|---|---|---|")
    for (way, name), results in found.items():
        seconds, used = (spread(list(values)) for values in zip(*results, strict=True))
        print(f"| {way} | {name} | {seconds} | {used} |")


if __name__ == "__main__":
    main(sys.argv[1:])
