"""An ended run as its folder has it: the ledger's rows and the shards' snapshots, for `tests/chaos/invariants.py`."""

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cluster.config.run_config import RunConfig
from cluster.runners.build import make_layout, make_parameters
from cluster.search.records import Attempt
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.ledger.rows import ATTEMPT_COLUMNS, CHILD_COLUMNS, attempt_of, child_of
from cluster.storage.run_folder import RunFolder
from controller.searcher import Child, passes_of
from ps.shard.messages import ShardState
from ps.shard.snapshot import SnapshotFile
from ps.store import Layout


class Broken(AssertionError):
    """What a run must never do; each line names an invariant and what breaks it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An attempt with what `Attempt` does not say: its number, and when it ended."""

    number: int
    attempt: Attempt
    ended_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedRun:
    """All of it."""

    config: RunConfig
    layout: Layout | None
    """`None` where the searcher keeps nothing on shards."""
    children: dict[int, Child]
    rows: dict[int, tuple[int, int, str, int, float | None, int | None]]
    """By child: replica, batch, state, seed, metric, completion."""
    attempts: dict[int, list[Row]]
    batches: dict[int, dict[int, tuple[float | None, int | None]]]
    """By replica and number: when it was learnt from, and whether a gradient was pushed."""
    shards: list[ShardState]

    @property
    def lessons(self) -> list[list[Child]]:
        """By batch, the children that are learnt from, where there are any."""
        found: dict[tuple[int, int], list[Child]] = defaultdict(list)
        for child_id, row in self.rows.items():
            if self.children[child_id].reward is not None:
                found[row[:2]].append(self.children[child_id])
        return list(found.values())

    @property
    def pushes(self) -> int:
        """How many the replicas have made: so many for each batch as the searcher makes steps on it."""
        return self.passes * sum(len(numbers) for numbers in self.batches.values())

    @property
    def passes(self) -> int:
        return passes_of(self.config.make_searcher())

    @property
    def trained(self) -> dict[int, Child]:
        """The children that did not take the outcome of another one."""
        return {child_id: child for child_id, child in self.children.items() if child.proposal.same_as is None}


def read_ended(folder: RunFolder) -> EndedRun:
    """Return the run in this folder; raise `Broken` where a shard's newest snapshot is missing."""
    config = folder.read_config()
    groups = make_parameters(config, config.make_searcher())
    layout = make_layout(config, folder.identity(config), groups) if groups else None
    attempts: dict[int, list[Row]] = defaultdict(list)
    batches: dict[int, dict[int, tuple[float | None, int | None]]] = defaultdict(dict)
    with closing(sqlite3.connect(folder.ledger)) as db:
        graphs = GraphTable(db)
        sampled = db.execute(f"SELECT {CHILD_COLUMNS} FROM children ORDER BY id").fetchall()
        children = {row[0]: child_of(*row, get=graphs.get) for row in sampled}
        columns = "id, replica, batch, state, seed, metric, completion"
        rows = {row[0]: row[1:] for row in db.execute(f"SELECT {columns} FROM children ORDER BY id")}
        for number, ended_at, *row in db.execute(
            f"SELECT number, ended_at, {ATTEMPT_COLUMNS} FROM attempts ORDER BY child, number"
        ):
            attempts[row[0]].append(Row(number=number, attempt=attempt_of(*row), ended_at=ended_at))
        for replica, number, *rest in db.execute("SELECT replica, number, learned_at, pushed FROM batches"):
            batches[replica][number] = (rest[0], rest[1])
    return EndedRun(
        config=config,
        layout=layout,
        children=children,
        rows=rows,
        attempts=attempts,
        batches=batches,
        shards=[_shard(folder.shards, layout, index) for index in range(layout.shards)] if layout else [],
    )


def _shard(directory: Path, layout: Layout, index: int) -> ShardState:
    loaded = SnapshotFile(directory, layout, index).load()
    if loaded is None:
        raise Broken(f"shard {index} has no snapshot")
    state, fell_back = loaded
    if fell_back:
        raise Broken(f"shard {index} has only its previous snapshot")
    return state
