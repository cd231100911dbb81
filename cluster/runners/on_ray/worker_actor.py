"""The actor of a worker, or of several that share a process. Like all actors, it may be killed and restarted."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import ray
from ray.exceptions import RayError

from child_trainer.outcome import Cause, Outcome
from child_trainer.training import gpu_memory
from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.pool.checkpoints import ChildSlot
from cluster.pool.output_buffer import OutputBuffer
from cluster.pool.output_capture import BufferedCapture, by_descriptor, by_thread, split_by_thread
from cluster.pool.protocol import NotStarted, Report, TrainingOrder
from cluster.pool.supervision import Gpu
from cluster.pool.worker_process import HEARTBEAT_INTERVAL_S, CrashFile, WorkerProcess, preempt_on_sigterm
from cluster.runners.on_ray.handles import (
    CHECKPOINTS,
    CHILD_WEIGHTS,
    LEDGER,
    POOL,
    RemoteCheckpoints,
    RemoteWeights,
    WeightsAccess,
    actor,
    open_store,
    places_here,
)
from cluster.runners.on_ray.judging import PoolJudge
from cluster.runners.on_ray.private_api import node_logs_folder
from ps.rpc.shared_calls import SharedCalls

CALL_TIMEOUT_S = 10.0
"""Timeout for the pool's answer to a worker's heartbeat or epoch, and for the ledger to keep a worker's output."""

SHARED_HEARTBEAT_INTERVAL_S = 10.0
"""Seconds between two heartbeats of a worker that shares its process with hundreds."""

FIRST_GPU = "cuda:0"
"""The GPU of a worker's process: Ray hides the others from it."""

Beats = SharedCalls[tuple[int, str, str | None], bool]
"""The heartbeats of a process's workers: of each its slot, its place and the key of its attempt."""


@ray.remote(max_restarts=-1)
class Worker:
    """One worker, or several that share this process: each trains children, one at a time; see `WorkerProcess`."""

    def __init__(
        self, config: RunConfig, slots: Sequence[int], weights: WeightsAccess | None = None, inherits: bool = False
    ) -> None:
        from cluster.runners.trainer import trainer_on

        context = ray.get_runtime_context()
        # Two Rays on one machine number their jobs alike, but each has a folder of its own.
        own = f"{node_logs_folder()}/nascluster-{context.get_job_id()}"
        alone = len(slots) == 1
        if not alone:
            self._split = ExitStack()
            self._split.enter_context(split_by_thread())
        checkpoints = _checkpoint_slot if config.failures.checkpoint_children else None
        address = ray.util.get_node_ip_address()
        store = weights and open_store(weights.layout, actor(LEDGER), weights.token, store="weights")
        policy = weights and weights.policy and open_store(weights.policy, actor(LEDGER), weights.token)
        gpu = bool(ray.get_gpu_ids())
        trainer = trainer_on(
            address,
            config,
            gpu=gpu,
            slots=checkpoints,
            weights=store,
            policy=policy,
            child_weights=RemoteWeights(actor(CHILD_WEIGHTS)) if inherits else None,
            judge=PoolJudge() if config.stopping.early_stop else None,
        )
        part = _gpu_here(context.get_node_id()) if config.topology.gpus_per_child == AUTO else None
        places = places_here(slots)
        crash_file = CrashFile(Path(f"{own}-{slots[0]}.died"), list(places.values()))
        beats: Beats = SharedCalls()
        self._workers = {
            slot: WorkerProcess(
                trainer,
                place=place,
                node=context.get_node_id(),
                beat=functools.partial(_beat, beats, slot),
                beat_s=HEARTBEAT_INTERVAL_S if alone else SHARED_HEARTBEAT_INTERVAL_S,
                crash_file=crash_file,
                gpu=part,
                limit_gpu=_limit_gpu,
                seeds=trainer,
                capture=BufferedCapture(
                    OutputBuffer(Path(f"{own}-{slot}.output")), by_descriptor if alone else by_thread, _keep_output
                ),
            )
            for slot, place in places.items()
        }
        preempt_on_sigterm(self._workers.values())
        # A request for the report of a worker that trains waits until the training has ended.
        self._turns = {slot: threading.Lock() for slot in slots}

    @ray.method(max_task_retries=-1)
    def report(self, slot: int) -> Report:
        """Return where this worker is, and the outcome of its last attempt."""
        with self._turns[slot]:
            return self._workers[slot].report()

    def train(self, slot: int, order: TrainingOrder) -> tuple[Outcome, ...]:
        """Train one child, or several as one."""
        with self._turns[slot]:
            return self._workers[slot].train(order)

    def train_all(self, orders: Sequence[tuple[int, TrainingOrder]]) -> list[tuple[Outcome, ...] | None]:
        """Train children that take no time, one after another; `None` for an order to the process before this one."""
        return [self._outcomes(slot, order) for slot, order in orders]

    def _outcomes(self, slot: int, order: TrainingOrder) -> tuple[Outcome, ...] | None:
        try:
            return self.train(slot, order)
        except NotStarted:
            return None
        except Exception:  # one that is not the child's; the others of the message are trained nevertheless
            return (Outcome.failed(Cause.CRASHED, traceback.format_exc(), seed=order.assignment.seed),)


def _gpu_here(node: str) -> Gpu:
    """Return the GPU that Ray has given this process a part of."""
    return Gpu(name=f"{node}/{ray.get_gpu_ids()[0]}", size_bytes=gpu_memory.total_memory(FIRST_GPU))


def _limit_gpu(limit_bytes: int) -> None:
    gpu_memory.limit_memory(FIRST_GPU, limit_bytes)


def _beat(beats: Beats, slot: int, place: str, key: str | None) -> bool:
    """Send a heartbeat, in a message with those of other workers of this process that are due as well."""
    return beats.call("beat", (slot, place, key), _beat_all)


def _beat_all(beats: Sequence[tuple[int, str, str | None]]) -> Sequence[bool]:
    pool = actor(POOL)
    return ray.get(pool.beat_all.options(max_task_retries=0).remote(list(beats)), timeout=CALL_TIMEOUT_S)


def _keep_output(child_id: int, key: str, text: str) -> None:
    """Send the output to the ledger before the attempt's end is reported, and do not wait longer than the timeout."""
    with suppress(RayError, ValueError):  # the ledger is unavailable: it gets the call when it is back, or has ended
        ray.get(actor(LEDGER).keep_output.remote(child_id, key, text), timeout=CALL_TIMEOUT_S)


def _checkpoint_slot(child_id: int) -> ChildSlot:
    return ChildSlot(RemoteCheckpoints(actor(CHECKPOINTS)), child_id)
