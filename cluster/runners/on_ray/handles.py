"""How the actors of one run reach each other on Ray: by name, so that each may be restarted."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from child_trainer.outcome import Outcome
from cluster.formatting import last_line
from cluster.pool.protocol import Collected
from cluster.runners.on_ray.credentials import RunToken, shards_tls
from cluster.search.evaluator import Assignment
from cluster.search.records import StoreName

if TYPE_CHECKING:
    from ps.rpc.client import GrpcStore
    from ps.store import Layout

Handle = Any
"""An actor's handle: Ray's own type knows nothing of the actor's methods."""

LEDGER, POOL, CHECKPOINTS, CHILD_WEIGHTS = "ledger", "pool", "checkpoints", "child-weights"
"""Names by which the actors of one run find each other. Runs side by side have namespaces of their own."""

CALL_TIMEOUT_S = 10.0
"""Timeout for one attempt of one call to a shard."""

RETRY_TIMEOUT_S = 600.0
"""Seconds for which calls to an unavailable shard are retried before the run ends, to be resumed later."""

PROBE_INTERVAL_S = 10.0
"""Seconds after which a caller that waits for an actor's answer probes the connection, see `probe`."""


@functools.cache
def actor(name: str) -> Handle:
    """Return the handle of the actor with this name, which stays valid when the actor restarts.

    Raises:
        ValueError: there is none of this name.
    """
    return ray.get_actor(name)


def worker_name(slot: int, per_process: int = 1) -> str:
    """Return the name by which the actors of a run find the process of a worker."""
    return f"worker-{slot // per_process}"


def places_here(slots: Sequence[int]) -> dict[int, str]:
    """Return names for the workers of this process, by their slots, unlike those of any other process."""
    process = f"{ray.util.get_node_ip_address()}/{secrets.token_hex(4)}:{os.getpid()}"
    return {slot: f"worker-{slot}@{process}" for slot in slots}


def process_number(place: str) -> int:
    """Return the process id in a name that `places_here` has made."""
    return int(place.rpartition(":")[2])


@dataclass(frozen=True, kw_only=True)
class Connections:
    """The parts of the run that a replica calls.

    Attributes:
        layout: of the shards, or `None` where the searcher keeps nothing on them.
        token: from which the shards' secret is derived; the ledger knows their addresses.
        ledger, pool: the actors.
        weights: the layout of the shared weights, if replicas tell their shards when a batch has ended.
    """

    layout: Layout | None
    token: RunToken
    ledger: Handle
    pool: Handle
    weights: Layout | None = None


@dataclass(frozen=True, kw_only=True)
class StoreShards:
    """The shards of one of the run's stores.

    Attributes:
        store: which.
        layout: of all of them.
        directory: of their snapshots.
        snapshot_interval_s: seconds between two of these; 0: one before each ack.
    """

    store: StoreName
    layout: Layout
    directory: Path
    snapshot_interval_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WeightsAccess:
    """What a worker needs to reach the weights that children share, besides the ledger.

    Attributes:
        layout: of their shards.
        token: from which the shards' secret is derived.
        policy: the layout of the searcher's parameters, if it has any.
    """

    layout: Layout
    token: RunToken
    policy: Layout | None = None


def probe(host: Handle) -> None:
    """Call the actor, on the connection on which its answer to an earlier call should arrive.

    If a link is cut, the sender's operating system drops an answer and its connection after 20 s. Ray reports that to
    a process that only waits after five minutes, but at once to one that sends, and then repeats the earlier call.
    """
    host.__ray_ready__.options(max_task_retries=0).remote()


def answer(host: Handle, call: ray.ObjectRef) -> Any:
    """Return what the call to the actor returns, or raise what it raises; probe the connection meanwhile."""
    while True:
        try:
            return ray.get(call, timeout=PROBE_INTERVAL_S)
        except GetTimeoutError:
            probe(host)


class RemoteCheckpoints:
    """A worker's proxy of the checkpoint folder. Failures are `OSError`, wherever the folder is."""

    def __init__(self, host: Handle) -> None:
        self._host = host

    def load(self, child_id: int) -> bytes | None:
        """See `CheckpointFolder.load`."""
        return _file_answer("checkpoint", self._host, self._host.load.remote(child_id))

    def save(self, child_id: int, data: bytes) -> None:
        """See `CheckpointFolder.save`."""
        _file_answer("checkpoint", self._host, self._host.save.remote(child_id, data))


class RemoteWeights:
    """A proxy of the folder of children's weights. Failures are `OSError`, wherever the folder is."""

    def __init__(self, host: Handle) -> None:
        self._host = host

    def load(self, child_id: int, checksum: str) -> bytes | None:
        """See `WeightsFolder.load`."""
        return _file_answer("weights", self._host, self._host.load.remote(child_id, checksum))

    def save(self, child_id: int, checksum: str, data: bytes) -> None:
        """See `WeightsFolder.save`."""
        _file_answer("weights", self._host, self._host.save.remote(child_id, checksum, data))

    def forget(self, children: Collection[int]) -> None:
        """See `WeightsFolder.forget`."""
        _file_answer("weights", self._host, self._host.forget.remote(children))


def _file_answer(what: str, host: Handle, call: ray.ObjectRef) -> Any:
    """Return the answer of an actor that keeps files; an `OSError` has a number only if the actor itself met it."""
    try:
        return answer(host, call)
    except RayTaskError as error:
        number = getattr(error.cause, "errno", None)
        raise OSError(number, f"the {what} host: {last_line(str(error.cause))}") from error
    except RayError as error:
        raise OSError(f"the {what} host: {last_line(str(error))}") from error


class PoolEvaluator:
    """A replica's proxy of the pool. Children that are submitted together share one message, and often the answer.

    Args:
        pool: of the run.
        predict: returns the memory of a GPU that a child will allocate, if the pool needs it; see `Assignment`.
    """

    def __init__(self, pool: Handle, predict: Callable[[Assignment], int | None] | None = None) -> None:
        self._pool, self._predict = pool, predict
        self._left: dict[int, Assignment] = {}
        self._calls: dict[ray.ObjectRef, tuple[int, ...]] = {}
        self._answered_at = time.monotonic()

    def submit(self, *assignments: Assignment) -> None:
        """Hand the children to the pool."""
        if self._predict is not None:
            assignments = tuple(replace(one, gpu_bytes=self._predict(one)) for one in assignments)
        self._left |= {one.child_id: one for one in assignments}
        self._request(assignments)

    def completed(self) -> list[tuple[int, Outcome]]:
        """Return the children that have ended, after waiting up to a second for the first."""
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=1.0)
        now = time.monotonic()
        if not ready and now - self._answered_at > PROBE_INTERVAL_S:
            probe(self._pool)
        if ready or now - self._answered_at > PROBE_INTERVAL_S:
            self._answered_at = now
        return [ended for call in ready for ended in self._receive(call)]

    def _request(self, assignments: Sequence[Assignment], known: Sequence[int] = ()) -> None:
        children = (*(one.child_id for one in assignments), *known)
        self._calls[self._pool.collect.remote(assignments, known)] = children

    def _receive(self, call: ray.ObjectRef) -> Sequence[tuple[int, Outcome]]:
        """Take the answer to a call, and ask for the outcomes of its other children."""
        collected: Collected = ray.get(call)
        ended = {child_id for child_id, _ in collected.ended}
        if others := [child_id for child_id in self._calls.pop(call) if child_id not in ended]:
            unknown = [self._left[child_id] for child_id in others if child_id in collected.unknown]
            self._request(unknown, [child_id for child_id in others if child_id not in collected.unknown])
        for child_id in ended:
            del self._left[child_id]
        return collected.ended


def open_store(
    layout: Layout,
    ledger: Handle,
    token: RunToken,
    *,
    store: StoreName = "policy",
    deadline_s: float = CALL_TIMEOUT_S,
    retry_timeout_s: float = RETRY_TIMEOUT_S,
) -> GrpcStore:
    """Return a client of a store's shards, which reads their addresses from the ledger whenever one is unreachable.

    One attempt of a call takes at most `deadline_s` seconds, and failed attempts are retried for `retry_timeout_s`.

    Raises:
        CredentialsError: this node's token or certificates are not the cluster's.
    """
    from ps.rpc.client import GrpcStore

    def addresses() -> list[str]:
        if not ray.is_initialized():  # a call would start a second Ray
            raise ConnectionError("Ray has been shut down")
        return ray.get(ledger.addresses.remote(store), timeout=CALL_TIMEOUT_S)

    return GrpcStore(
        layout,
        addresses,
        token=token.secret(os.environ, ray.util.get_node_ip_address()),
        tls=shards_tls(os.environ),
        deadline_s=deadline_s,
        retry_timeout_s=retry_timeout_s,
    )


class OneAtATime:
    """Calls a method of an actor without waiting, but not while the last call is still pending.

    Otherwise an actor that was unavailable would receive all the calls of that time at once.
    """

    def __init__(self, method: Handle) -> None:
        self._method = method
        self._pending: ray.ObjectRef | None = None

    def __call__(self) -> None:
        """Call the method, unless a call is pending, and raise the error of the last call if it failed."""
        before = self._pending
        if before is not None and not ray.wait([before], timeout=0)[0]:
            return
        self._pending = self._method.remote()
        if before is not None:
            ray.get(before)
