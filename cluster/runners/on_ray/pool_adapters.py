"""How the pool reaches the workers on Ray."""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayError, RayTaskError

from child_trainer.outcome import Cause, Outcome
from cluster.formatting import last_line
from cluster.pool.child_weights import LostWeights
from cluster.pool.protocol import CallLost, FusionRefused, NotStarted, Report, TrainingOrder, WorkerLost
from cluster.pool.supervision import Nodes
from cluster.runners.on_ray import private_api
from cluster.runners.on_ray.handles import (
    CHECKPOINTS,
    PROBE_INTERVAL_S,
    Handle,
    actor,
    probe,
    process_number,
    worker_name,
)
from cluster.runners.on_ray.shared_messages import SharedMessages

NAME_TIMEOUT_S = 5
"""Seconds within which Ray must know a worker's name: the pool is started before the workers."""


class RayWorkers:
    """The workers as Ray's actors; see `cluster.pool.protocol.WorkerGroup`.

    Args:
        checkpoints: children save their state.
        per_process: workers that share a process.
        instant: children take no time, so that those of one process may share a message.
    """

    def __init__(self, checkpoints: bool, per_process: int = 1, *, instant: bool = False) -> None:
        self._checkpoints, self._per_process, self._instant = checkpoints, per_process, instant
        self._orders: dict[str, SharedMessages[tuple[int, TrainingOrder], tuple[Outcome, ...] | None]] = {}
        self._sent: dict[int, float] = {}  # when each worker was sent the child whose outcome is pending
        self._handles: dict[str, Handle] = {}

    def _worker(self, slot: int) -> Handle:
        name = worker_name(slot, self._per_process)
        if name not in self._handles:
            self._handles[name] = ray.get_actor(name)
        return self._handles[name]

    async def report(self, slot: int) -> Report:
        """See `WorkerGroup.report`."""
        try:
            await self._known(slot)
            return await self._worker(slot).report.remote(slot)
        except (RayError, ValueError) as error:  # its constructor failed, or Ray no longer knows it
            self._handles.pop(worker_name(slot, self._per_process), None)  # a replacement may get the name
            raise WorkerLost(last_line(str(error))) from error

    async def _known(self, slot: int) -> None:
        """Wait a few seconds for a worker whose start has just been requested."""
        for _ in range(NAME_TIMEOUT_S):
            with contextlib.suppress(ValueError):
                self._worker(slot)
                return
            await asyncio.sleep(1)

    async def train(self, slot: int, order: TrainingOrder) -> Sequence[Outcome]:
        """See `WorkerGroup.train`."""
        try:
            worker = self._worker(slot)
        except ValueError as error:  # Ray no longer knows it
            raise CallLost(last_line(str(error))) from error
        sent = self._sent[slot] = time.monotonic()
        try:
            return await (self._train_with_others if self._instant else worker.train.remote)(slot, order)
        except FusionRefused as error:  # as it was there, without Ray's traceback
            raise FusionRefused(getattr(error, "cause", error).args[0]) from None
        except NotStarted:
            raise
        except LostWeights as error:  # as it was there, without Ray's traceback
            raise LostWeights(error.child_id, error.parent, error.checksum, error.fault) from None
        except RayTaskError as error:  # the worker raised an error that is not the child's
            return [Outcome.failed(Cause.CRASHED, str(error), seed=one.seed) for one in order.assignments]
        except RayError as error:  # any other error of Ray's: the process has ended or is unreachable
            raise CallLost(last_line(str(error))) from error
        finally:
            if self._sent.get(slot) == sent:
                del self._sent[slot]

    async def _train_with_others(self, slot: int, order: TrainingOrder) -> Sequence[Outcome]:
        name = worker_name(slot, self._per_process)
        if name not in self._orders:

            async def train_all(orders: Sequence[tuple[int, TrainingOrder]]) -> Sequence[tuple[Outcome, ...] | None]:
                return await self._worker(slot).train_all.remote(list(orders))

            self._orders[name] = SharedMessages(train_all)
        outcomes = await self._orders[name]((slot, order))
        if outcomes is None:
            raise NotStarted(f"the worker {slot} is not {order.place}")
        return outcomes

    def is_idle(self, slot: int) -> None:
        """Handle the heartbeat of a worker that trains nothing: a pending outcome may have been lost on its way."""
        if time.monotonic() - self._sent.get(slot, math.inf) > PROBE_INTERVAL_S:
            with contextlib.suppress(ValueError):  # Ray no longer knows it
                probe(self._worker(slot))

    async def restart(self, slot: int, place: str) -> None:
        """See `WorkerGroup.restart`. Ray would kill a successor as well, so the process is checked first."""
        await asyncio.get_running_loop().run_in_executor(None, self._end_process, slot, place)

    def _end_process(self, slot: int, place: str) -> None:
        with contextlib.suppress(ValueError, RayError):  # Ray no longer knows it
            worker = self._worker(slot)
            process = private_api.actor_process(worker)
            if process.alive and process.pid == process_number(place):
                ray.kill(worker, no_restart=False)

    async def nodes(self) -> Nodes:
        """See `WorkerGroup.nodes`."""
        return await asyncio.get_running_loop().run_in_executor(None, _nodes)

    def forget(self, child_id: int) -> None:
        """See `WorkerGroup.forget`."""
        if self._checkpoints:
            actor(CHECKPOINTS).forget.remote(child_id)


def _nodes() -> Nodes:
    alive = frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
    return Nodes(alive=alive, draining=frozenset(private_api.draining_nodes()))
