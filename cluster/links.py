"""How the actors of one run reach each other on Ray: by name, so that each may be started anew."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray._private.state import state as ray_state
from ray.exceptions import RayError, RayTaskError

from child_trainer.outcome import Cause, Outcome
from cluster.credentials import RunToken, shards_tls
from cluster.evaluator import Assignment
from cluster.pool.crew import BrokenOff, Gone, NotBegun, Order, Report
from cluster.pool.supervision import Nodes
from cluster.records import Attempt, Verdict
from cluster.texts import last_line

if TYPE_CHECKING:
    from ps.client import GrpcStore
    from ps.store import Layout

Handle = Any
"""An actor's handle: Ray's own type knows nothing of the actor's methods."""

LEDGER, POOL, CHECKPOINTS = "ledger", "pool", "checkpoints"
"""Names by which the actors of one run find each other. Runs side by side have namespaces of their own."""

DEADLINE_S = 10.0
"""Seconds for one attempt of one call to a shard."""

PATIENCE_S = 600.0
"""Seconds in which a shard that died must be back before the run ends, to be resumed later."""


POKE_S = 10.0
"""Seconds after which whoever waits for an actor's answer makes it another call, see `poke`."""


@functools.cache
def actor(name: str) -> Handle:
    """A handle stays good when its actor is started anew. Raises `ValueError` if there is none of this name."""
    return ray.get_actor(name)


def worker_name(slot: int, per_process: int = 1) -> str:
    """The name under which a worker's process is found by the actors of its run, be they started anew."""
    return f"worker-{slot // per_process}"


def places_here(slots: Sequence[int]) -> dict[int, str]:
    """Names for the workers of this process, by their slots, unlike those of any other process."""
    process = f"{ray.util.get_node_ip_address()}/{secrets.token_hex(4)}:{os.getpid()}"
    return {slot: f"worker-{slot}@{process}" for slot in slots}


def process_number(place: str) -> int:
    """Of the process that `places_here` has named so, on its machine."""
    return int(place.rpartition(":")[2])


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What a replica is connected to.

    Attributes:
        layout: of the shards, or `None` where the searcher keeps nothing on them.
        token: from which the shards' secret is made; where they are the ledger knows.
        ledger, pool: the actors.
    """

    layout: Layout | None
    token: RunToken
    ledger: Handle
    pool: Handle


def poke(host: Handle) -> None:
    """Call the actor, on the connection on which its answer to an earlier call should come.

    An answer that a cut link swallows is given up by its sender's system after 20 s, and the connection with it. Who
    waits would hear of that from Ray after five minutes; who sends hears at once, and Ray makes the earlier call again.
    """
    host.__ray_ready__.options(max_task_retries=0).remote()


def answer(host: Handle, call: ray.ObjectRef) -> Any:
    """What the call to the actor gives, or raises."""
    while not ray.wait([call], timeout=POKE_S)[0]:
        poke(host)
    return ray.get(call)


class RemoteLedger:
    """The ledger as its actor's callers see it: the same methods, each a call that waits."""

    def __init__(self, host: Handle) -> None:
        self._host = host

    def __getattr__(self, method: str) -> Any:
        remote = getattr(self._host, method).remote
        return lambda *args, **kwargs: answer(self._host, remote(*args, **kwargs))


class AwaitedLedger:
    """The ledger as the pool reaches it; see `cluster.pool.crew.PoolLedger`."""

    async def attempts(self, child_id: int) -> Sequence[Attempt]:
        """See `PoolLedger.attempts`."""
        return await actor(LEDGER).attempts.remote(child_id)

    async def running(self) -> Sequence[Attempt]:
        """See `PoolLedger.running`."""
        return await actor(LEDGER).running.remote()

    async def start(self, attempt: Attempt) -> None:
        """See `PoolLedger.start`."""
        await actor(LEDGER).start.remote(
            attempt.child_id, attempt.worker, attempt.key, slot=attempt.slot, batch_size=attempt.batch_size
        )

    async def end_attempt(self, key: str, outcome: Outcome | None, verdict: Verdict) -> bool:
        """See `PoolLedger.end_attempt`."""
        return await actor(LEDGER).end_attempt.remote(key, outcome, verdict)


class RemoteCheckpoints:
    """The folder as a worker sees it. What goes wrong with it is an `OSError`, wherever the folder is."""

    def __init__(self, host: Handle) -> None:
        self._host = host

    def load(self, child_id: int) -> bytes | None:
        """See `CheckpointFolder.load`."""
        return self._call(self._host.load.remote(child_id))

    def save(self, child_id: int, data: bytes) -> None:
        """See `CheckpointFolder.save`."""
        self._call(self._host.save.remote(child_id, data))

    def _call(self, call: ray.ObjectRef) -> Any:
        try:
            return answer(self._host, call)
        except RayError as error:
            raise OSError(f"the checkpoint host: {last_line(str(error))}") from error


class RayCrew:
    """The workers as Ray's actors; see `cluster.pool.crew.Crew`.

    Args:
        checkpoints: children save their state.
        per_process: workers that share a process.
    """

    def __init__(self, checkpoints: bool, per_process: int = 1) -> None:
        self._checkpoints, self._per_process = checkpoints, per_process
        self._sent: dict[int, float] = {}  # when each worker was sent the child whose outcome is waited for

    def _worker(self, slot: int) -> Handle:
        return actor(worker_name(slot, self._per_process))

    async def report(self, slot: int) -> Report:
        """See `Crew.report`."""
        try:
            return await self._worker(slot).report.remote(slot)
        except (RayError, ValueError) as error:  # its constructor failed, or Ray has forgotten it since
            raise Gone(last_line(str(error))) from error

    async def train(self, slot: int, order: Order) -> Outcome:
        """See `Crew.train`."""
        try:
            worker = self._worker(slot)
        except ValueError as error:  # Ray has forgotten it
            raise BrokenOff(last_line(str(error))) from error
        sent = self._sent[slot] = time.monotonic()
        try:
            return await worker.train.remote(slot, order)
        except NotBegun:
            raise
        except RayTaskError as error:  # the worker answered, with an error that is no child's
            return Outcome.failed(Cause.CRASHED, str(error), seed=order.assignment.seed)
        except RayError as error:  # whatever else Ray has to say: its process is gone, or out of reach
            raise BrokenOff(last_line(str(error))) from error
        finally:
            if self._sent.get(slot) == sent:
                del self._sent[slot]

    def is_idle(self, slot: int) -> None:
        """The worker says that it trains nothing: if its outcome has been waited for, the answer may be lost."""
        if time.monotonic() - self._sent.get(slot, math.inf) > POKE_S:
            with contextlib.suppress(ValueError):  # Ray has forgotten it
                poke(self._worker(slot))

    async def restart(self, slot: int, place: str) -> None:
        """See `Crew.restart`. Ray ends whatever process is there: it is asked first which one that is."""
        await asyncio.get_running_loop().run_in_executor(None, self._end_process, slot, place)

    def _end_process(self, slot: int, place: str) -> None:
        with contextlib.suppress(ValueError, RayError):  # Ray has forgotten it
            worker = self._worker(slot)
            found = ray_state.actor_table(worker._actor_id.hex())
            if found.get("State") == "ALIVE" and found["Pid"] == process_number(place):
                ray.kill(worker, no_restart=False)

    async def nodes(self) -> Nodes:
        """See `Crew.nodes`."""
        return await asyncio.get_running_loop().run_in_executor(None, _nodes)

    def forget(self, child_id: int) -> None:
        """See `Crew.forget`."""
        if self._checkpoints:
            actor(CHECKPOINTS).forget.remote(child_id)


def _nodes() -> Nodes:
    alive = frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
    return Nodes(alive=alive, draining=frozenset(ray_state.get_draining_nodes()))


class PoolEvaluator:
    """A replica's view of the pool."""

    def __init__(self, pool: Handle) -> None:
        self._pool = pool
        self._waiting: dict[ray.ObjectRef, int] = {}
        self._heard_at = time.monotonic()

    def submit(self, assignment: Assignment) -> None:
        """Hand the child to the pool."""
        self._waiting[self._pool.evaluate.remote(assignment)] = assignment.child_id

    def completed(self) -> list[tuple[int, Outcome]]:
        """The children that have ended, waiting up to a second for the first."""
        ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=1.0)
        now = time.monotonic()
        if not ready and now - self._heard_at > POKE_S:
            poke(self._pool)
        if ready or now - self._heard_at > POKE_S:
            self._heard_at = now
        return [(self._waiting.pop(ref), ray.get(ref)) for ref in ready]


def open_store(
    layout: Layout,
    ledger: Handle,
    token: RunToken,
    *,
    deadline_s: float = DEADLINE_S,
    patience_s: float = PATIENCE_S,
) -> GrpcStore:
    """The shards' client, which asks the ledger where they are, and again whenever one cannot be reached.

    One attempt of a call takes at most `deadline_s`, and failed attempts are repeated for `patience_s`.

    Raises:
        CredentialsError: this node's token or certificates are not what they must be.
    """
    from ps.client import GrpcStore

    return GrpcStore(
        layout,
        lambda: ray.get(ledger.addresses.remote()),
        token=token.secret(os.environ, ray.util.get_node_ip_address()),
        tls=shards_tls(os.environ),
        deadline_s=deadline_s,
        patience_s=patience_s,
    )


class OneAtATime:
    """Calls a method of an actor now and then without waiting; not again while the last call is under way.

    An actor that is away would else find all the calls that came meanwhile when it is back.
    """

    def __init__(self, method: Handle) -> None:
        self._method = method
        self._under_way: ray.ObjectRef | None = None

    def __call__(self) -> None:
        """Raises what became of the call before, if it failed."""
        before = self._under_way
        if before is not None and not ray.wait([before], timeout=0)[0]:
            return
        self._under_way = self._method.remote()
        if before is not None:
            ray.get(before)
