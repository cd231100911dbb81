"""Ledgers of any size with a history that is known, written straight into the tables: quick at 100,000 children."""

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.ledger.schema import migrate
from cluster.storage.run_folder import RunFolder
from controller.decisions import uniform
from controller.spaces.convolutional import ConvolutionalSpace

START = 1_000_000.0
"""When the first child was sampled, Unix time."""

SPACE = ConvolutionalSpace(layer_types=("conv", "pool"), initial_depth=3, depth_step=1, depth_interval=50, max_depth=4)
CONFIG = RunConfig(
    max_children=200_000,
    task=TaskOptions(task="digits"),
    topology=Topology(replicas=2, shards=2, children=4, workers=3, gpus_per_child=0.5),
    space_options=SPACE,
)
WORKERS = 3


def new_run(storage: Path, name: str = "run", config: RunConfig = CONFIG) -> RunFolder:
    """A run that was only made."""
    folder = RunFolder(storage / name)
    folder.create(replace(config, name=name))
    return folder


@contextmanager
def ledger(folder: RunFolder) -> Iterator[sqlite3.Connection]:
    """The ledger, to be written by hand in one transaction; what notes its changes is left out."""
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        migrate(db, "ledger")
        for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("DELETE FROM totals")
        db.execute("BEGIN")
        yield db
        db.execute("COMMIT")


def filled_run(
    storage: Path,
    children: int,
    *,
    name: str = "run",
    fails: float = 0.2,
    message: str = "why",
    config: RunConfig = CONFIG,
) -> RunFolder:
    """A finished run of so many children on three workers, of which a share failed; every third failure was retried."""
    folder, choose = new_run(storage, name, config), random.Random(children)
    designs = [uniform(SPACE.decisions(completed), choose) for completed in (0, 50) for _ in range(100)]
    drawn = {tokens: SPACE.decode(tokens) for tokens in designs}
    free = [START + 1.0] * WORKERS
    rows, attempts = [], []
    for child in range(1, children + 1):
        tokens = choose.choice(designs[:100] if child <= children // 2 else designs[100:])
        worker = child % WORKERS
        cause = choose.choice(("crashed", "timeout", "diverged")) if choose.random() < fails else None
        for number in (1, 2) if cause and child % 3 == 0 else (1,):
            begun = free[worker]
            free[worker] += choose.uniform(0.5, 4.0)
            retried = bool(cause) and child % 3 == 0 and number == 1
            attempts.append(
                (child, number, f"w{worker}", f"{child}-{number}", begun, free[worker], worker,
                 "retry" if retried else "outcome", cause, message if cause else None)
            )  # fmt: skip
        metric = None if cause else min(0.99, 0.5 + 0.3 * child / children + choose.uniform(-0.1, 0.1))
        seconds = 0.0 if cause else free[worker] - begun
        failure = {"cause": cause, "message": message} if cause else None
        rows.append(
            [
                child,
                tokens,
                cause,
                metric,
                free[worker],
                None if cause else choose.randrange(10_000, 900_000),
                seconds,
                failure,
            ]
        )
    order = {row[0]: place for place, row in enumerate(sorted(rows, key=lambda row: row[4]), start=1)}
    with ledger(folder) as db:
        graphs = GraphTable(db)
        drawn = {t: (graphs.add(a), a.id) for t, a in drawn.items()}
        db.executemany(
            "INSERT INTO children (id, replica, batch, tokens, graph, architecture_id, seed, state, sampled_at,"
            " ended_at, completion, reward, metric, parameters, flops, seconds, cause, outcome)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (child, child // 4 % 2, child // 8, json.dumps(tokens), *drawn[tokens], child,
                 "failed" if cause else "finished", START + child / 100, ended, order[child],
                 0.0 if cause else metric**3, metric, parameters, parameters and 100 * parameters, seconds, cause,
                 json.dumps({"curve": [], "failure": failure}))
                for child, tokens, cause, metric, ended, parameters, seconds, failure in rows
            ),
        )  # fmt: skip
        db.executemany(
            "INSERT INTO attempts (child, number, worker, key, started_at, ended_at, slot, verdict, cause, message)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            attempts,
        )
        end = max(free)
        batches = children // 4
        db.executemany(
            "INSERT INTO batches VALUES (?, ?, '[0, 0]', ?, ?, 1, ?, ?, ?, ?)",
            (
                (number % 2, number, START, START + (number + 1) * (end - START) / batches,
                 json.dumps([choose.randrange(4), choose.randrange(4)]),
                 json.dumps({"baseline": 0.3, "entropy": 9.0 - 8.0 * number / batches}),
                 choose.uniform(0.001, 0.01), choose.uniform(0.01, 0.1))
                for number in range(batches)
            ),
        )  # fmt: skip
        facts = {"state": "finished", "message": "", "started_at": START, "beat_at": end, "seconds_before": 0.0}
        db.executemany("INSERT INTO run VALUES (?, ?)", (facts | {"workers": WORKERS}).items())
    return folder
