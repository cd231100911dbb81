"""A run in this one process, without Ray: the reference, the debugger, and the single-node test mode."""

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace

from child_trainer.threads import computing_with
from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.monitoring.metrics.shard_probe import Observe, unobserved
from cluster.placement.capacity import gpus_per_child
from cluster.pool.checkpoints import CheckpointFolder, ChildSlot
from cluster.pool.child_weights import WeightsFolder
from cluster.pool.output_buffer import OutputBuffer
from cluster.pool.output_capture import BufferedCapture, by_thread, split_by_thread
from cluster.pool.output_files import OUTPUTS, OutputFolder, keep_output
from cluster.runners.build import local_store, make_replica
from cluster.runners.causal import telling_the_weights
from cluster.runners.ceiling_watch import CeilingWatch
from cluster.runners.early_stopping import judge_of
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.shared_weights import local_weights
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Evaluator
from cluster.search.history import History
from cluster.search.records import StoreName
from cluster.search.replica_loop import replica_loop
from cluster.storage.errors import Stopped
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from controller.searcher import keeps_weights
from ps.store import ParameterStore


def check_locally(config: RunConfig) -> float:
    """Return how many GPUs of this machine a child uses; 0 if it trains on a processor.

    Raises:
        PlacementError: if it requests more GPUs than there are.
    """
    gpus = _num_gpus() if config.topology.gpus_per_child or config.task.entry.trains else 0
    given = gpus_per_child(config.topology, gpus, can_grow=False)
    return 1.0 if config.topology.gpus_per_child == AUTO else given  # one child at a time has all of it


def run_locally(
    config: RunConfig, folder: RunFolder, ledger: Ledger, *, gpu: bool = False, observe: Observe = unobserved
) -> None:
    """Run the search to its end. The replicas take turns, a child at a time, so that a seed fixes everything.

    `observe` gets a function that returns a shard's counters.

    Raises:
        Stopped: a stop was requested.
        CeilingReached: one of the run's ceilings is used up.
    """
    weights = local_weights(config, folder.identity(config), folder.weights)
    with closing(weights) if weights else nullcontext():  # closing writes what the last periodic snapshot lacks
        _run(config, folder, ledger, weights, gpu=gpu, observe=observe)


def _run(
    config: RunConfig,
    folder: RunFolder,
    ledger: Ledger,
    weights: ParameterStore | None,
    *,
    gpu: bool,
    observe: Observe,
) -> None:
    checkpoints = _checkpoints(config, folder, ledger)
    slots = checkpoints and (lambda child: ChildSlot(checkpoints, child))
    store = local_store(config, folder.identity(config), folder.shards)
    child_weights = WeightsFolder(folder.child_weights) if keeps_weights(config.make_searcher()) else None
    trainer = Trainer(
        within_time(config),
        gpu=gpu,
        slots=slots,
        weights=weights,
        policy=store,
        child_weights=child_weights,
        judge=judge_of(config, History(ledger)),
    )
    capture = _output_capture(folder, ledger)
    evaluators = [
        InProcessEvaluator(
            trainer,
            ledger,
            config.failures.policy,
            batch_size=config.budget.batch_size,
            preempted=folder.stop_requested if checkpoints else None,
            on_settled=checkpoints.forget if checkpoints else lambda _: None,
            capture=capture,
            at_once=config.task.instant,
            seeds=trainer,
            fuse_seeds=config.fuse_seeds,
        )
        for _ in range(config.topology.replicas)
    ]

    def observed(store: ParameterStore | None, shards: int, name: StoreName) -> AbstractContextManager[object]:
        return observe(shards, lambda index: store.status()[index], name) if store else nullcontext()

    ceilings = CeilingWatch(config, folder, workers=1)

    def stops() -> bool:
        for evaluator in evaluators:
            evaluator.raise_interrupt()
        if end := ceilings.reached():
            raise end
        return folder.stop_requested()

    # A policy's matrices are too small for more threads, which compete for the cores: on a busy machine a step takes
    # many times as long. Besides, a seed would give different searches on machines with different numbers of cores.
    with (
        split_by_thread(),
        observed(store, config.topology.shards, "policy"),
        observed(weights, config.weights.weights_shards, "weights"),
        computing_with(1),
    ):
        forget = child_weights and child_weights.forget
        if not take_turns(config, store, evaluators, ledger, stops, weights, forget):
            raise Stopped


def take_turns(
    config: RunConfig,
    store: ParameterStore | None,
    evaluators: Sequence[Evaluator],
    ledger: Ledger,
    stops: Callable[[], bool],
    weights: ParameterStore | None = None,
    forget_weights: Callable[[Collection[int]], None] | None = None,
) -> bool:
    """Run one replica for each evaluator in turn, until all have ended or `stops` is true between two turns.

    Returns:
        Whether all have ended.
    """
    history = History(ledger)
    replicas = (
        make_replica(config, index, store, evaluator, ledger, history) for index, evaluator in enumerate(evaluators)
    )
    turns: list[Iterator[None]] = [
        replica_loop(replace(telling_the_weights(config, replica, weights), forget_weights=forget_weights))
        for replica in replicas
    ]

    def advance(turn: Iterator[None]) -> Iterator[None] | None:
        # Children that take no time must be on disk only before they are learnt from, which is in another turn.
        with ledger.together() if config.task.instant else nullcontext():
            return next(turn, turn)

    while turns:
        remaining = []
        for turn in turns:
            if stops():
                return False
            # A replica that continues yields None; one that has ended gives the default.
            if advance(turn) is None:
                remaining.append(turn)
        turns = remaining
    return True


def _checkpoints(config: RunConfig, folder: RunFolder, ledger: Ledger) -> CheckpointFolder | None:
    if not config.failures.checkpoint_children:
        return None
    checkpoints = CheckpointFolder(folder.checkpoints)
    checkpoints.keep_only(ledger.open_children())
    return checkpoints


def _output_capture(folder: RunFolder, ledger: Ledger) -> BufferedCapture:
    """Return the capture of the children's output; first keep the output that a killed driver has left."""
    keep = functools.partial(keep_output, ledger, OutputFolder(folder.path / OUTPUTS))
    return BufferedCapture(OutputBuffer(folder.path / "output.part"), by_thread, keep)


def within_time(config: RunConfig) -> RunConfig:
    """Return the run with `child_timeout` as `budget.max_seconds`, because a local run cannot kill a child."""
    limits = [s for s in (config.failures.rules.child_timeout_s, config.budget.max_seconds) if s is not None]
    return replace(config, budget=replace(config.budget, max_seconds=min(limits, default=None)))


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
