"""That no step on shared weights was lost or made twice, from the folder of an ended run alone.

The ledger says which steps the children were to make, and the shards which pushes they have applied: of the weights one
for each step, of the searcher's parameters one for each batch, and one for each step that moves strengths.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cluster.runners.build import make_layout, make_parameters
from cluster.runners.shared_weights import make_weights, weights_layout
from cluster.search.replica import client
from cluster.search.steps import lane_client
from cluster.storage.ledger.queries.run import last_batches, last_steps
from cluster.storage.run_folder import RunFolder
from controller.searcher import passes_of, shared_weights_of
from ps.shard.messages import ShardState
from ps.shard.snapshot import SnapshotFile
from ps.store import Layout
from tests.chaos.ended import Broken


@dataclass(frozen=True, kw_only=True, slots=True)
class StepsReport:
    """What a search with shared weights was made of.

    Attributes:
        children: that have ended, and all of them well.
        attempts: at them.
        steps: that they were to make.
        lost: steps that a shard of the weights has not applied, by shard.
        duplicated: pushes that a shard of either kind has applied more than once, over all shards.
        policy_lost: pushes of parameters or strengths that a shard has not applied, likewise.
    """

    children: int
    attempts: int
    steps: int
    lost: tuple[int, ...]
    duplicated: int
    policy_lost: int


def check_steps(path: Path, children: int) -> StepsReport:
    """Return the report of the ended run in this folder, which has so many children.

    Raises:
        Broken: a child has not ended well, or a shard knows a push that nobody made.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    searcher, run = config.make_searcher(), folder.identity(config)
    shared, weights, groups = (
        shared_weights_of(searcher),
        make_weights(config, searcher),
        make_parameters(config, searcher),
    )
    assert shared
    assert weights
    with closing(sqlite3.connect(folder.ledger)) as db:
        (ended,) = db.execute("SELECT count(*) FROM children WHERE state = 'finished'").fetchone()
        (attempts,) = db.execute("SELECT count(*) FROM attempts").fetchone()
        (repeated,) = db.execute(
            "SELECT count(*) - count(DISTINCT child) FROM attempts WHERE verdict = 'outcome'"
        ).fetchone()
        query = "SELECT coalesce(sum(json_extract(job, '$.count')), 0) FROM children WHERE lane IS NOT NULL"
        (steps,) = db.execute(query).fetchone()
        batches, lanes = last_batches(db), last_steps(db)
    if (ended, repeated) != (children, 0):
        raise Broken(f"{ended} of {children} children have ended well, and {repeated} have several outcomes")
    known = {lane_client(*lane): last for lane, last in lanes.items()}
    layout = weights_layout(config, run, weights)
    of_weights = [_pushes(state, known) for state in _states(folder.weights, layout)]
    expected = passes_of(searcher) * sum(batches.values()) + (steps if shared.moves_strengths else 0)
    known |= {client(replica): passes_of(searcher) * last for replica, last in batches.items()}
    of_policy = [
        _pushes(state, known) for state in (_states(folder.shards, make_layout(config, run, groups)) if groups else ())
    ]
    return StepsReport(
        children=ended,
        attempts=attempts,
        steps=steps,
        lost=tuple(max(0, steps - pushes) for pushes in of_weights),
        duplicated=sum(max(0, n - steps) for n in of_weights) + sum(max(0, n - expected) for n in of_policy),
        policy_lost=sum(max(0, expected - pushes) for pushes in of_policy),
    )


def _states(directory: Path, layout: Layout) -> Iterator[ShardState]:
    for index in range(layout.shards):
        loaded = SnapshotFile(directory, layout, index).load()
        if loaded is None or loaded[1]:
            raise Broken(f"shard {index} in {directory} has lost its newest snapshot")
        yield loaded[0]


def _pushes(state: ShardState, known: Mapping[str, int]) -> int:
    """Return how many pushes a shard has applied, none of which may be later than the ledger knows."""
    for name, (sequence, _) in state.metadata["clients"].items():
        if sequence > known.get(name, 0):
            raise Broken(f"push {sequence} of {name} was applied, and the ledger knows {known.get(name, 0)}")
    return state.metadata["pushes"]
