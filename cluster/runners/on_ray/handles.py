"""How the actors of one run reach each other on Ray: by name, so that each may be started anew."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from child_trainer.outcome import Outcome
from cluster.formatting import last_line
from cluster.runners.on_ray.credentials import RunToken, shards_tls
from cluster.search.evaluator import Assignment

if TYPE_CHECKING:
    from ps.rpc.client import GrpcStore
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
    retry_timeout_s: float = PATIENCE_S,
) -> GrpcStore:
    """The shards' client, which asks the ledger where they are, and again whenever one cannot be reached.

    One attempt of a call takes at most `deadline_s`, and failed attempts are repeated for `retry_timeout_s`.

    Raises:
        CredentialsError: this node's token or certificates are not what they must be.
    """
    from ps.rpc.client import GrpcStore

    return GrpcStore(
        layout,
        lambda: ray.get(ledger.addresses.remote()),
        token=token.secret(os.environ, ray.util.get_node_ip_address()),
        tls=shards_tls(os.environ),
        deadline_s=deadline_s,
        retry_timeout_s=retry_timeout_s,
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
