"""Whole searches from the command line, and pools of real workers on Ray, for tests to do things to."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import ray

from child_trainer.outcome import Budget
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.pool.failure_policy import FailurePolicy
from cluster.pool.supervision import PoolOptions
from cluster.runners.early_stopping import early_stopping
from cluster.runners.on_ray import private_api
from cluster.runners.on_ray.actors import CheckpointHost, LedgerHost, PoolHost
from cluster.runners.on_ray.handles import CHECKPOINTS, LEDGER, POOL, process_number, worker_name
from cluster.runners.on_ray.worker_actor import Worker
from cluster.search.records import Attempt
from cluster.storage.run_folder import RunFolder
from cluster.storage.session import Session
from controller.searcher import Proposal
from tests.contracts.evaluator import architecture
from tests.waiting import TIMEOUT_S, until

T = TypeVar("T")

Process = subprocess.Popen[str]

TINY = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=1, train_fraction=0.1, batch_size=32))

SLOW = RunConfig(
    task=TaskOptions(task="synthetic", options=SyntheticOptions(child_seconds=2.0)), budget=Budget(epochs=1)
)


def nascluster(*arguments: object, address: str = "local", new_session: bool = False) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *map(str, arguments)],
        env=os.environ | {"RAY_ADDRESS": address},
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


def actor_process(run: str, actor: str) -> int:
    """Return the process id of the run's one live actor of this name, or of this class if it has no name.

    Wait for it where it has just been started, which Ray's list of actors shows a moment later.
    """
    (process,) = until(lambda: actor_processes(run, actor), f"in run {run}: {actor} is alive")
    return process


def actor_processes(run: str, actor: str) -> list[int]:
    """Return the process ids of the run's live actors of this name, or of this class if they have no name.

    This process must have joined the run's Ray (fixture `cluster`).
    """
    session = Session.read(RunFolder(run_folder(run)))
    assert session is not None
    wanted = (session.job, actor, "ALIVE")
    return sorted(row.pid for row in private_api.actors() if (row.job, row.name, row.state) == wanted)


def select(name: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows that a run's ledger answers with; none while it is being made."""
    path = run_folder(name) / "ledger.sqlite"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def wait_for(name: str, finished: int) -> None:
    """Until a run has so many finished children."""
    wait_until(name, f"SELECT 1 FROM children WHERE state = 'finished' LIMIT 1 OFFSET {finished - 1}")


def wait_until(name: str, query: str) -> None:
    """Until a run's ledger answers with a row."""
    until(lambda: select(name, query), f"in run {name}: {query}", pause_s=0.1)


def pool_options(config: RunConfig, *, max_attempts: int = 2) -> PoolOptions:
    return PoolOptions(
        rules=config.failures.rules,
        policy=FailurePolicy(max_attempts=max_attempts, by_cause=config.failures.policy.by_cause),
        batch_size=32,
        fuse_seeds=config.fuse_seeds,
    )


def open_pool(folder: Path, config: RunConfig, workers: int) -> tuple[Any, list[Any]]:
    """Start a pool of workers; return it and all its actors, under the names by which they find each other."""
    ledger: Any = LedgerHost.options(name=LEDGER).remote(folder / "ledger.sqlite", 0, 100)
    held: list[Any] = [Worker.options(num_cpus=1, name=worker_name(i)).remote(config, [i]) for i in range(workers)]
    if config.failures.checkpoint_children:
        held.append(CheckpointHost.options(name=CHECKPOINTS).remote(folder / "checkpoints"))
    pool: Any = PoolHost.options(name=POOL).remote(workers, pool_options(config), 1, early_stopping(config))
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
    """A ledger, a pool and workers: one, whose children take two seconds, if nothing else is said."""

    def __init__(self, folder: Path, config: RunConfig = SLOW, *, workers: int = 1) -> None:
        self.path = folder / "ledger.sqlite"
        self.pool, self.actors = open_pool(folder, config, workers)
        self.ledger = self.actors[-1]

    def until(self, question: Callable[[], T], what: str, within_s: float = TIMEOUT_S) -> T:
        """Return the question's answer, once it is true."""
        return until(question, what, timeout_s=within_s, state=self.attempts)

    def history(self, child: int) -> Sequence[Attempt]:
        return ray.get(self.ledger.attempts.remote(child))

    def in_training(self, child: int, number: int) -> int:
        """Return the id of the process that makes this attempt at the child, half a second after the attempt began."""

        def latest() -> Attempt | None:
            attempts = self.history(child)
            return attempts[-1] if len(attempts) == number and attempts[-1].verdict is None else None

        attempt = self.until(latest, f"attempt {number} at child {child} has begun")
        time.sleep(0.5)
        return process_of(attempt)

    def ended_attempts(self) -> list[tuple[int, int, str, str | None]]:
        """Return the attempts once all have ended: a good outcome comes a moment before the record of its attempt."""
        self.until(lambda: all(verdict for _, _, verdict, _ in self.attempts()), "every attempt has ended")
        return self.attempts()

    def attempts(self) -> list[tuple[int, int, str, str | None]]:
        db = sqlite3.connect(self.path)
        found = db.execute("SELECT child, number, verdict, cause FROM attempts ORDER BY started_at").fetchall()
        db.close()
        return found


def process_of(attempt: Attempt) -> int:
    """Return the id of the process that makes or made the attempt."""
    return process_number(attempt.worker)
