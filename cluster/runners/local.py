"""A run in this one process, without Ray: the reference, the debugger, and the single-node test mode."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from cluster.config.run_config import RunConfig
from cluster.monitoring.metrics.shard_probe import Observe, unobserved
from cluster.placement.capacity import gpus_per_child
from cluster.pool.checkpoints import CheckpointFolder, ChildSlot
from cluster.pool.output_buffer import OutputBuffer
from cluster.pool.output_capture import BufferedCapture, by_thread, split_by_thread
from cluster.pool.output_files import OUTPUTS, OutputFolder, keep_output
from cluster.runners.build import local_store, make_replica
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Evaluator
from cluster.search.history import History
from cluster.search.replica import replica_loop
from cluster.storage.errors import Stopped
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from ps.store import ParameterStore


def check_locally(config: RunConfig) -> bool:
    """Whether the run trains on a GPU here.

    Raises:
        PlacementError: if it asks for more than there are.
    """
    gpus = _num_gpus() if config.topology.gpus_per_child or config.task.entry.trains else 0
    return gpus_per_child(config.topology, gpus, can_grow=False) > 0


def run_locally(
    config: RunConfig, folder: RunFolder, ledger: Ledger, *, gpu: bool = False, observe: Observe = unobserved
) -> None:
    """Run the search to its end. The replicas take turns, a child at a time, so that a seed fixes everything.

    `observe` is given the way to ask a shard for its counters.

    Raises:
        Stopped: the run was asked to stop.
    """
    checkpoints = _checkpoints(config, folder, ledger)
    trainer = Trainer(within_time(config), gpu=gpu, slots=checkpoints and (lambda child: ChildSlot(checkpoints, child)))
    store = local_store(config, folder.identity(config), folder.shards)
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
        )
        for _ in range(config.topology.replicas)
    ]
    observed = observe(config.topology.shards, lambda index: store.status()[index]) if store else nullcontext()

    def asked() -> bool:
        for evaluator in evaluators:
            evaluator.raise_interrupt()
        return folder.stop_requested()

    with split_by_thread(), observed, one_thread():
        if not take_turns(config, store, evaluators, ledger, asked):
            raise Stopped


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread, until the block is left.

    A policy's matrices are too small for more: the others only get into each other's way, and where all cores are busy
    a step takes many times as long. Besides, how a sum is shared out between threads is seen in its last bits, and one
    seed would not give one search on machines with unlike numbers of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_turns(
    config: RunConfig,
    store: ParameterStore | None,
    evaluators: Sequence[Evaluator],
    ledger: Ledger,
    asked: Callable[[], bool],
) -> bool:
    """Let one replica for each evaluator search, until all have come to their end or, between two turns, it is asked.

    Returns:
        Whether they have come to their end.
    """
    history = History(ledger)
    turns: list[Iterator[None]] = [
        replica_loop(make_replica(config, index, store, evaluator, ledger, history))
        for index, evaluator in enumerate(evaluators)
    ]

    def take(turn: Iterator[None]) -> Iterator[None] | None:
        # Children that take no time need not be on disk before they are trained, only before they are learnt from:
        # that is another turn.
        with ledger.together() if config.task.instant else nullcontext():
            return next(turn, turn)

    while turns:
        going_on = []
        for turn in turns:
            if asked():
                return False
            # A replica that goes on yields None; one that has come to its end gives the default.
            if take(turn) is None:
                going_on.append(turn)
        turns = going_on
    return True


def _checkpoints(config: RunConfig, folder: RunFolder, ledger: Ledger) -> CheckpointFolder | None:
    if not config.failures.checkpoint_children:
        return None
    checkpoints = CheckpointFolder(folder.checkpoints)
    checkpoints.keep_only(ledger.open_children())
    return checkpoints


def _output_capture(folder: RunFolder, ledger: Ledger) -> BufferedCapture:
    """Return the capture of the children's output; first keep what a driver that was killed has left of it."""
    keep = functools.partial(keep_output, ledger, OutputFolder(folder.path / OUTPUTS))
    return BufferedCapture(OutputBuffer(folder.path / "output.part"), by_thread, keep)


def within_time(config: RunConfig) -> RunConfig:
    """Nobody is outside this process to end a child in time: its epochs are counted instead."""
    limits = [s for s in (config.failures.rules.child_timeout_s, config.budget.max_seconds) if s is not None]
    return replace(config, budget=replace(config.budget, max_seconds=min(limits, default=None)))


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
