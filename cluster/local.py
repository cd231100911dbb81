"""A run in this one process, without Ray: the reference, the debugger, and the single-node test mode."""

from collections.abc import Iterator

from cluster.config import RunConfig
from cluster.evaluator import InProcessEvaluator
from cluster.ledger import Ledger
from cluster.parts import initial_values, make_layout, make_parameters, make_replica, make_searcher
from cluster.replica import replica_loop
from cluster.run_folder import RunFolder
from cluster.training import Trainer
from ps.local import LocalStore


def run_locally(config: RunConfig, folder: RunFolder, ledger: Ledger) -> None:
    """Run the search to its end. The replicas take turns, a child at a time, so that a seed fixes everything."""
    trainer = Trainer(config)
    groups = make_parameters(config, make_searcher(config))
    store = LocalStore(make_layout(config, folder.name, groups), folder.shards) if groups else None
    if store:
        store.initialize(initial_values(groups))
    turns: list[Iterator[None]] = []
    for index in range(config.topology.replicas):
        evaluator = InProcessEvaluator(trainer.train, lambda child_id: ledger.start(child_id, "local"))
        turns.append(replica_loop(make_replica(config, index, store, evaluator, ledger)))
    while turns:
        # A replica that goes on yields None; one that has come to its end gives the default.
        turns = [turn for turn in turns if next(turn, turn) is None]
