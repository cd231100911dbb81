"""Whole searches from the command line, and pools of real workers on Ray, for tests to do things to."""

import itertools
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray

from child_trainer.outcome import Budget
from cluster.actors import LEDGER, POOL, LedgerHost, PoolHost, Worker, worker_name
from cluster.config import RunConfig, TaskOptions
from cluster.pool import Terms
from cluster.reactions import Reactions
from cluster.supervision import Rules
from controller.searcher import Proposal
from tests.contracts.evaluator import architecture

Process = subprocess.Popen[str]

COUNTER = itertools.count()

TINY = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=1, train_fraction=0.1, batch_size=32))

SLOW = RunConfig(task=TaskOptions(task="synthetic", child_seconds=2.0), budget=Budget(epochs=1))


def nascluster(*arguments: object, address: str = "local", new_session: bool = False) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *map(str, arguments)],
        env=os.environ | {"RAY_ADDRESS": address, "NASCLUSTER_TEST": str(next(COUNTER))},
        cwd=Path(__file__).parents[2],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=new_session,
    )


def finish(process: Process, code: int = 0) -> str:
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, out + err
    assert err == ""
    return out


def run_folder(name: str) -> Path:
    return Path.home() / "nascluster_runs" / name


def status(name: str) -> dict[str, Any]:
    return json.loads(finish(nascluster("status", name, "--json")))


def session_of(process: int) -> str | None:
    """Which of the commands that these tests started a process belongs to, `None` for none of them."""
    variables = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(v.partition("=")[::2] for v in variables).get("NASCLUSTER_TEST")


def wait_for(name: str, finished: int) -> None:
    """Until a run has so many finished children."""
    path = run_folder(name) / "ledger.sqlite"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
            ((count,),) = db.execute("SELECT count(*) FROM children WHERE state = 'finished'").fetchall()
            db.close()
        except sqlite3.OperationalError:
            continue
        if count >= finished:
            return
    raise AssertionError(f"run {name} has not finished {finished} children in time")


def terms(*, max_attempts: int = 2) -> Terms:
    return Terms(rules=Rules(), reactions=Reactions(max_attempts=max_attempts), batch_size=32)


def open_pool(folder: Path, config: RunConfig, workers: int) -> tuple[Any, list[Any]]:
    """A pool of workers, and all its actors, under the names that they look for."""
    ledger: Any = LedgerHost.options(name=LEDGER).remote(folder / "ledger.sqlite", 0, 100)
    held: list[Any] = [Worker.options(num_cpus=1, name=worker_name(i)).remote(config, i) for i in range(workers)]
    pool: Any = PoolHost.options(name=POOL).remote(workers, terms())
    proposal = Proposal(tokens=(0, 0, 0), architecture=architecture())
    ray.get(ledger.admit.remote(0, 1, [proposal] * 6, ()))
    return pool, [*held, pool, ledger]


def end(actors: list[Any]) -> None:
    """End them, and wait until their names are free for the next test."""
    for actor in actors:
        ray.kill(actor)
    deadline = time.monotonic() + 30
    while any(named_actors()) and time.monotonic() < deadline:
        time.sleep(0.1)


def named_actors() -> list[str]:
    return [name for name in ray.util.list_named_actors() if name]


class Rig:
    """A ledger, a pool and one worker whose children take two seconds."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.sqlite"
        self.pool, self.actors = open_pool(folder, SLOW, workers=1)
        self.worker, self.ledger = self.actors[0], self.actors[-1]

    def in_training(self, child: int, number: int) -> int:
        """The process that makes this attempt at the child, once it is a moment under way."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            attempts = ray.get(self.ledger.attempts.remote(child))
            if len(attempts) == number and attempts[-1].verdict is None:
                time.sleep(0.5)
                return int(attempts[-1].worker.rpartition(":")[2])
            time.sleep(0.1)
        raise AssertionError(f"attempt {number} at child {child} has not begun in time")

    def attempts(self) -> list[tuple[int, int, str, str | None]]:
        db = sqlite3.connect(self.path)
        found = db.execute("SELECT child, number, verdict, cause FROM attempts ORDER BY started_at").fetchall()
        db.close()
        return found
