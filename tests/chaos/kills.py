"""Kills as values: what is killed, at which step of whose life, by which means; and a search that they happen to."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cluster.runners.on_ray.handles import LEDGER, POOL, worker_name
from cluster.search.replica import client
from tests.chaos.machines import Machines, first_value, start_command
from tests.waiting import TIMEOUT_S, until

WORKERS, REPLICAS, SHARDS, CHILDREN = 2, 3, 3, 4
CHILD_S = 0.2


class Kind(StrEnum):
    """What is killed."""

    WORKER = "Worker"
    REPLICA_HOST = "ReplicaHost"
    SHARD_HOST = "ShardHost"
    POOL = "PoolHost"
    LEDGER = "LedgerHost"
    DRIVER = "driver"
    NODE = "node"


BY_RAY = {Kind.WORKER: worker_name(0), Kind.POOL: POOL, Kind.LEDGER: LEDGER}
"""Actors that have a name, by which `ray.kill` can be called on them."""


class Stage(StrEnum):
    """At which step of a child's or a push's life."""

    ANY = "at any moment"
    SAMPLED = "a batch has just been recorded, and none of its children is in training"
    RUNNING = "a child is in training"
    TRAINED = "a child's training has ended, and the pool does not know it yet"
    OUTCOME = "an attempt's outcome is recorded, and its child has not ended for the replica"
    PUSHED = "the shards have a batch's push, and the ledger does not say so yet"


@dataclass(frozen=True, kw_only=True)
class Push:
    """One push as one shard sees it: the kill comes when it is in the shard's snapshot, a moment before the ack."""

    replica: int
    number: int
    shard: int


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill.

    Attributes:
        kind: what.
        at: when.
        after: so many children must have ended since the last kill, and since this one before the search ends.
        pause_s: between that and looking for the moment.
        by_ray: with `ray.kill` instead of SIGKILL.
        which: of several processes of the kind, in the order of their ids and counted round.
    """

    kind: Kind
    at: Stage | Push = Stage.ANY
    after: int = 1
    pause_s: float = 0.0
    by_ray: bool = False
    which: int = 0

    def __str__(self) -> str:
        when = f"push {self.at.number} of replica {self.at.replica}" if isinstance(self.at, Push) else self.at.name
        return f"{self.kind.name} at {when}{' by ray.kill' if self.by_ray else ''}"


def random_kills(seed: int, count: int) -> list[Kill]:
    """Every kind as often as the others, in an order, at steps and after pauses that the seed settles."""
    draw = random.Random(seed)
    kinds = [list(Kind)[i % len(Kind)] for i in range(count)]
    draw.shuffle(kinds)
    return [
        Kill(
            kind=kind,
            at=draw.choice(list(Stage)),
            after=draw.randint(0, 3),
            pause_s=draw.uniform(0.0, 0.5),
            by_ray=kind in BY_RAY and draw.random() < 0.3,
        )
        for kind in kinds
    ]


class Search:
    """A search on a cluster, from its driver's start to its end, whatever is killed meanwhile.

    Args:
        machines: the cluster.
        name: the run's.
        max_children: of the run.
        words: more flags, which take the place of those that a synthetic search has.
        recipe: a synthetic search, or the recipe of another one, whose flags are all in `words`.
    """

    def __init__(
        self,
        machines: Machines,
        name: str,
        max_children: int,
        *words: str,
        recipe: str = "synthetic",
    ) -> None:
        self.folder = Path.home() / "nascluster_runs" / name
        self._machines, self._name, self._max_children = machines, name, max_children
        self._log = Path.home() / f"{name}.log"
        sizes = {"workers": WORKERS, "replicas": REPLICAS, "shards": SHARDS, "children": CHILDREN}
        flags = sizes | {"child-seconds": CHILD_S} if recipe == "synthetic" else {}
        flags |= {"max-children": max_children}
        flags = {f"--{flag}": value for flag, value in flags.items()}
        options = [str(word) for flag, value in flags.items() if flag not in words for word in (flag, value)]
        self._driver = self._command("launch", recipe, "--name", name, *options, *words)

    def suffer(self, kills: Sequence[Kill]) -> None:
        """Have them happen, one after another; after each the search must go on by itself."""
        for kill in kills:
            self._make_progress(kill.after)
            time.sleep(kill.pause_s)
            with self._at(kill.at):
                self._strike(kill)
            print(f"{self._ended():5} children: {kill}", flush=True)
        self._make_progress(1)

    def finish(self) -> None:
        """Wait for the search's own end."""
        code = self._driver.wait(timeout=5 * TIMEOUT_S)
        assert code == 0, self._said()

    def end(self) -> None:
        """End the driver, if it has not ended."""
        self._driver.kill()
        self._driver.wait()

    def _strike(self, kill: Kill) -> None:
        match kill.kind:
            case Kind.DRIVER:
                self._driver.kill()
                self._driver.wait()
                self._driver = self._command("resume", self._name)
            case Kind.NODE:
                self._machines.kill_node_of(Kind.WORKER)
                self._machines.add_node()
            case _ if kill.by_ray:
                self._machines.kill_by_ray(BY_RAY[kill.kind])
            case _:
                os.kill(self._process(kill), signal.SIGKILL)

    def _process(self, kill: Kill) -> int:
        found = sorted(until(lambda: self._machines.processes(kill.kind), f"a process of a {kill.kind}"))
        return found[kill.which % len(found)][0]

    @contextmanager
    def _at(self, moment: Stage | Push) -> Iterator[None]:
        """Keep everything as it is at this moment, by stopping all that would go on, while the block lasts."""
        match moment:
            case Stage.ANY:
                yield
            case Stage.SAMPLED:
                before, last = self._one("SELECT max(id) FROM children"), self._max_children
                if before < last:  # else all were sampled before this kill was due, on a slow machine
                    until(lambda: self._one("SELECT max(id) FROM children") > before, "a new batch", pause_s=0)
                yield
            case Stage.RUNNING:
                until(lambda: self._one("SELECT count(*) FROM attempts WHERE ended_at IS NULL"), "a child in training")
                yield
            case Stage.TRAINED:
                with self._trained():
                    yield
            case Stage.OUTCOME:
                with self._unseen():
                    yield
            case Stage.PUSHED:
                with self._pushed():
                    yield
            case Push():
                sequence = (client(moment.replica), moment.number)
                until(lambda: sequence in self._applied(moment.shard).items(), f"{moment}", pause_s=0)
                yield

    @contextmanager
    def _trained(self) -> Iterator[None]:
        """Stop the pool, while a worker comes to the end of a training."""

        def training() -> bool:
            return any(title == f"ray::{Kind.WORKER}.train" for _, title in self._machines.processes(Kind.WORKER))

        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            until(training, "a worker that trains", pause_s=0)
            with self._stopped(Kind.POOL):
                if training():
                    until(lambda: not training(), "the end of a training")
                    yield
                    return
        raise AssertionError("no worker came to the end of a training while the pool stood still")

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        """Stop the replicas, while the outcome of one of their children is recorded."""
        running = "SELECT count(*) FROM attempts WHERE ended_at IS NULL"
        query = "SELECT count(*) FROM attempts JOIN children ON id = child WHERE completion IS NULL"
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            until(lambda: self._one(running), "a child in training", pause_s=0)
            with self._stopped(Kind.REPLICA_HOST):
                until(lambda: self._one(f"{query} AND verdict = 'outcome'") or not self._one(running), "its end")
                if self._one(f"{query} AND verdict = 'outcome'"):
                    yield
                    return
        raise AssertionError("no outcome came on record while the replicas stood still")

    @contextmanager
    def _stopped(self, kind: Kind) -> Iterator[None]:
        """Stop the processes of a kind while the block lasts, as an overloaded machine does."""
        until(lambda: self._machines.processes(kind), f"a process of a {kind}")
        stopped = [process for process, _ in self._machines.processes(kind)]
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)

    @contextmanager
    def _pushed(self) -> Iterator[None]:
        """Stop the ledger before it learns of a push that shard 0 has; if that fails, of another one."""

        def unheard(applied: dict[str, int]) -> bool:
            query = "SELECT count(*) FROM batches WHERE learned_at IS NULL AND replica = {} AND number = {}"
            pushes = [(name.rpartition("-")[2], number) for name, number in applied.items()]
            return any(self._one(query.format(*push)) for push in pushes)

        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            before = self._applied(0)
            until(lambda known=before: self._applied(0) != known, "a push", pause_s=0)
            with self._stopped(Kind.LEDGER):
                if unheard(self._applied(0)):
                    yield
                    return
        raise AssertionError("no push was met between the shards and the ledger")

    def _applied(self, shard: int) -> dict[str, int]:
        """Return the last push of each replica in the shard's snapshot."""
        path = self.folder / "shards" / f"shard-{shard:03d}.safetensors"
        with suppress(OSError), path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            clients = json.loads(header["__metadata__"]["state"])["clients"]
            return {name: sequence for name, (sequence, _) in clients.items()}
        return {}  # it is not there yet, or is being replaced

    def _make_progress(self, children: int) -> None:
        goal = self._ended() + children

        def reached() -> bool:
            assert self._driver.poll() is None, f"the search has ended too early: {self._said()}"
            return self._ended() >= goal

        until(reached, f"the end of {children} more children")

    def _ended(self) -> int:
        return self._one("SELECT count(completion) FROM children")

    def _one(self, query: str) -> int:
        return first_value(self.folder / "ledger.sqlite", query) or 0

    def _command(self, *words: str) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return start_command(words, self._machines.environment, log)

    def _said(self) -> str:
        return self._log.read_text()[-3000:]


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)
