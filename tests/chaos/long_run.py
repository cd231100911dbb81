"""A run as long as nobody wants to wait for, to be gone on with."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cluster.config.instant_recipes import synthetic
from cluster.config.topology import Topology
from cluster.runners.build import make_layout, make_parameters
from cluster.runners.driver import execute
from cluster.search.replica import client
from cluster.storage.run_folder import RunFolder
from ps.shard.snapshot import SnapshotFile


def long_run(storage: Path, children: int, more: int) -> None:
    """Make the run `long` of so many children, whose driver died: a short one's rows repeated; `more` are left."""
    folder, short = RunFolder(storage / "long"), 100
    topology = Topology(replicas=1, shards=2, children=4, workers=2)
    config = replace(synthetic(), local=True, max_children=short, topology=topology)
    execute(config, folder, Console(quiet=True))
    many, batches = children // short, short // topology.children
    with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
        db.execute("BEGIN")
        for table, shifts in {
            "children": {"id": short, "completion": short, "batch": batches},
            "attempts": {"attempt_id": short, "child": short},
            "batches": {"number": batches},
        }.items():
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            moved = [f"{c} + {shifts[c]} * copy" if c in shifts else c for c in columns]
            moved = ["key || '-' || copy" if c == "key" else c for c in moved]
            copies = f"WITH copies(copy) AS (VALUES (1) UNION ALL SELECT copy + 1 FROM copies WHERE copy < {many - 1})"
            names = ", ".join(columns)
            db.execute(f"INSERT INTO {table} ({names}) {copies} SELECT {', '.join(moved)} FROM {table}, copies")
        db.execute("UPDATE run SET value = 'running' WHERE key = 'state'")
        db.execute("COMMIT")
    layout = make_layout(config, folder.name, make_parameters(config, config.make_searcher()))
    for index in range(layout.shards):
        file = SnapshotFile(folder.shards, layout, index)
        loaded = file.load()
        assert loaded is not None
        loaded[0].metadata["clients"][client(0)][0] = batches * many
        file.write(loaded[0])
    longer = replace(config, max_children=children + more)
    folder.path.rename(storage / "old")
    RunFolder(storage / "long").create(longer)
    for each in ("ledger.sqlite", "shards"):
        (storage / "old" / each).rename(folder.path / each)
