"""Recovery time of a search after each of its processes is killed, and of the resume of a long run.

    python -m benchmarks.recovery [repetitions]

Everything runs on this machine, on a Ray of its own. A time starts with the SIGKILL (a resume's with its process) and
ends with the event that the row names, by the ledger's own clock.
"""

import fcntl
import functools
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command_words import words as command_words
from benchmarks.exactly_once import isolated
from cluster.runners.on_ray.handles import process_number
from cluster.storage.run_folder import WRITERS
from tests.chaos.long_run import long_run
from tests.chaos.machines import Machines, first_value, start_command, until

REPETITIONS = 5
GOAL_SHARD_S, GOAL_RESUME_S = 5.0, 10.0
LONG, DISTANT = 100_000, 10**8
"""Children of a long run, and a number that none of these searches reaches."""

WAITING_S = 0.02
"""A write within this time after a kill had started before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the table: the seconds of each repetition, and their maximum if there is a goal."""

    what: str
    seconds: Sequence[float]
    goal_s: float | None = None


def table(rows: Sequence[Row]) -> str:
    """Format the rows as a table for people."""
    width = max(len(row.what) for row in rows)
    lines = [f"{'seconds':{width}}  {'median':>7}  {'least':>7}  {'most':>7}  {'of':>3}  goal"]
    for row in rows:
        numbers = [statistics.median(row.seconds), min(row.seconds), max(row.seconds)]
        goal = "" if row.goal_s is None else f"{row.goal_s:g}, {'met' if numbers[2] <= row.goal_s else 'missed'}"
        columns = "  ".join(f"{number:7.2f}" for number in numbers)
        lines.append(f"{row.what:{width}}  {columns}  {len(row.seconds):>3}  {goal}".rstrip())
    return "\n".join(lines)


command = functools.partial(start_command, log=subprocess.DEVNULL)
"""Starts a command of ours, and discards its output."""


class Ledger:
    """A run's ledger, read from outside."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.sqlite"

    def one(self, query: str, *values: object) -> Any:
        """Return the first value of the first row; `None` without a row or a ledger."""
        return first_value(self._path, query, *values)

    def next_attempt(self, at: float) -> float:
        """Return the start of the first attempt after the time `at`."""
        return until(lambda: self.one("SELECT min(started_at) FROM attempts WHERE started_at > ?", at), "an attempt")

    def first_attempt(self, at: float) -> float:
        """Return the start of the first attempt under a driver that was started at the time `at`."""
        start = "SELECT value FROM run WHERE key = 'started_at' AND value > ?"
        query = f"SELECT min(started_at) FROM attempts WHERE started_at > ({start})"
        return until(lambda: self.one(query, at), "an attempt")

    def next_write(self, at: float) -> float:
        """Return when a replica first wrote to the ledger after the time `at`."""
        times = (("children", "sampled_at"), ("children", "ended_at"), ("batches", "learned_at"))
        union = " UNION ALL ".join(
            f"SELECT min({column}) AS t FROM {table} WHERE {column} > ?1" for table, column in times
        )
        return until(lambda: self.one(f"SELECT min(t) FROM ({union})", at), "a write")


class Search:
    """A synthetic search that runs indefinitely on a cluster, with a child for each of its workers."""

    def __init__(self, machines: Machines, name: str) -> None:
        self._machines, self._name = machines, name
        self.ledger = Ledger(Path.home() / "nascluster_runs" / name)
        sizes = "--workers 2 --replicas 1 --children 2 --shards 2 --child-seconds 0.3"
        self._driver = command(
            ["launch", "synthetic", "--name", name, "--max-children", str(DISTANT), *sizes.split()],
            machines.environment,
        )
        self.settle()

    def settle(self) -> None:
        """Wait until the search makes progress again."""
        ended = self.ledger.one("SELECT count(completion) FROM children") or 0
        until(lambda: (self.ledger.one("SELECT count(completion) FROM children") or 0) > ended + 4, "more children")

    def kill(self, actor: str) -> float:
        """Kill an actor's process; return the time."""
        self.settle()
        ((process, _), *_) = self._machines.processes(actor)
        os.kill(process, signal.SIGKILL)
        return time.time() + WAITING_S

    def until_a_write(self, actor: str) -> list[float]:
        at = self.kill(actor)
        return [self.ledger.next_write(at) - at]

    def pool(self) -> list[float]:
        at = self.kill("PoolHost")
        return [self.ledger.next_attempt(at) - at]

    def worker(self) -> list[float]:
        """Return the seconds until the child is in training again, and until the worker's successor has a child."""
        self.settle()
        running = "SELECT worker FROM attempts WHERE ended_at IS NULL AND started_at < ?"
        worker = until(lambda: self.ledger.one(running, time.time() - 0.1), "a child in training")
        child = self.ledger.one("SELECT child FROM attempts WHERE worker = ? AND ended_at IS NULL", worker)
        os.kill(process_number(worker), signal.SIGKILL)
        at = time.time()
        if child is None or self.ledger.one("SELECT completion FROM children WHERE id = ?", child):
            return self.worker()  # it had just ended
        again = "SELECT started_at FROM attempts WHERE child = ? AND started_at > ?"
        child_at = until(lambda: self.ledger.one(again, child, at), "the child's next attempt")
        successor = "SELECT started_at FROM attempts WHERE worker LIKE ? AND worker <> ? AND started_at > ?"
        return [
            child_at - at,
            until(lambda: self.ledger.one(successor, worker.partition("@")[0] + "@%", worker, at), "its successor")
            - at,
        ]

    def driver(self) -> list[float]:
        self.settle()
        self._driver.kill()
        self._driver.wait()
        at = time.time()
        self._driver = command(["resume", self._name], self._machines.environment)
        return [self.ledger.first_attempt(at) - at]

    def end(self) -> None:
        """Kill the driver."""
        self._driver.kill()
        self._driver.wait()


def shard_host(machines: Machines, repetitions: int) -> list[float]:
    """Return the seconds from the kill of a host of 20 shards until a pull reaches all their next incarnations."""
    import ray

    from cluster.config.nas_recipes import zoph2017_cifar10
    from cluster.runners.build import initial_values, make_layout, make_parameters
    from cluster.runners.on_ray.actors import LedgerHost, ShardHost
    from cluster.runners.on_ray.credentials import RunToken
    from cluster.runners.on_ray.handles import LEDGER, open_store

    config = zoph2017_cifar10()
    groups = make_parameters(config, config.make_searcher())
    layout = make_layout(config, "recovery", groups)
    folder = Path.home() / "recovery"
    folder.mkdir()
    with machines.joined():
        ledger: Any = LedgerHost.options(name=LEDGER).remote(folder / "ledger.sqlite", 0, 1)
        token = RunToken(nonce="token", check=None)
        host: Any = ShardHost.remote(layout, range(layout.shards), folder / "shards", "127.0.0.1", token)
        ray.get(host.ready.remote())
        store = open_store(layout, ledger, token)
        store.initialize(initial_values(groups))
        seconds = []
        for _ in range(repetitions):
            before = store.pull().incarnations
            ((process, _), *_) = machines.processes("ShardHost")
            os.kill(process, signal.SIGKILL)
            at = time.monotonic()
            until(lambda known=before: all(map(int.__gt__, store.pull().incarnations, known)), "the shards")
            seconds.append(time.monotonic() - at)
        store.close()
    return seconds


def is_written(folder: Path) -> bool:
    """Return whether a process writes into a run's folder."""
    with open(folder / WRITERS, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def resume(environment: dict[str, str], on: str) -> float:
    """Return the seconds from the start of `nascluster resume` to the first new attempt."""
    folder = Path.home() / "nascluster_runs" / "long"
    until(lambda: not is_written(folder), "the end of the last driver's processes")
    at = time.time()
    driver = command(["resume", "long", "--on", on], environment)
    attempt_at = Ledger(folder).first_attempt(at)
    driver.kill()
    driver.wait()
    return attempt_at - at


def measure(repetitions: int) -> Iterator[Row]:
    """Yield every row."""
    shards = "a shard host of the paper's 20 shards: a pull is answered"
    machines = Machines(nodes=0, cores=4)
    yield Row(what=shards, seconds=shard_host(machines, repetitions), goal_s=GOAL_SHARD_S)
    search = Search(machines, "short")
    kinds: dict[Callable[[], list[float]], list[str]] = {
        search.worker: ["a worker: its child is in training again", "a worker: its successor has a child"],
        lambda: search.until_a_write("ReplicaHost"): ["a replica host: it writes to the ledger"],
        search.pool: ["the pool: an attempt begins"],
        lambda: search.until_a_write("LedgerHost"): ["the ledger host: a replica writes to it"],
        search.driver: ["the driver: an attempt begins after `nascluster resume`"],
    }
    for kill, names in kinds.items():
        results = [kill() for _ in range(repetitions)]
        for number, name in enumerate(names):
            yield Row(what=name, seconds=[result[number] for result in results])
    search.end()
    long_run(Path.home() / "nascluster_runs", LONG, DISTANT)
    wheres = {
        "in one process": (dict(os.environ), "local"),
        "on a Ray that runs": (machines.environment, "ray"),
        "with a Ray of its own": (os.environ | {"RAY_ADDRESS": "local"}, "ray"),
    }
    for where, (environment, on) in wheres.items():
        yield Row(
            what=f"resume of {LONG:,} children {where}: an attempt begins",
            seconds=[resume(environment, on) for _ in range(repetitions)],
            goal_s=GOAL_RESUME_S,
        )
    machines.close()


def main(arguments: list[str]) -> None:
    """Measure in an isolated Ray environment, and print the table."""
    match arguments:
        case ["inside", repetitions]:
            rows: list[Row] = []
            for row in measure(int(repetitions)):
                rows.append(row)
                print(f"measured: {row.what}", file=sys.stderr, flush=True)
            print(table(rows))
        case [] | [_]:
            inside = [sys.executable, "-m", "benchmarks.recovery", "inside", *(arguments or [str(REPETITIONS)])]
            with isolated() as environment:
                subprocess.run(inside, cwd=Path(__file__).parents[1], env=environment, check=True)
        case _:
            raise SystemExit(f"usage: python -m benchmarks.recovery [repetitions], got the arguments {arguments}")


if __name__ == "__main__":
    main(command_words(__doc__))
