"""A run in this one process, without Ray: the reference, the debugger, and the single-node test mode."""

from collections.abc import Iterator

from cluster.config import RunConfig
from cluster.evaluator import InProcessEvaluator
from cluster.ledger import Ledger
from cluster.parts import initial_values, make_layout, make_parameters, make_replica, make_searcher
from cluster.placement import gpus_per_child
from cluster.replica import replica_loop
from cluster.run_folder import RunFolder
from cluster.training import Trainer
from ps.local import LocalStore


def check_locally(config: RunConfig) -> bool:
    """Whether the run trains on a GPU here.

    Raises:
        PlacementError: if it asks for more than there are.
    """
    gpus = _num_gpus() if config.topology.gpus_per_child or config.task.task != "synthetic" else 0
    return gpus_per_child(config.topology, gpus, can_grow=False) > 0


def run_locally(config: RunConfig, folder: RunFolder, ledger: Ledger, *, gpu: bool = False) -> None:
    """Run the search to its end. The replicas take turns, a child at a time, so that a seed fixes everything."""
    trainer = Trainer(config, gpu=gpu)
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


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
