"""A run on Ray: the topology on one page, on one machine or many."""

import functools
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.monitoring.metrics.shard_probe import Observe, unobserved
from cluster.placement.capacity import WorkerResources
from cluster.placement.plan import Plan
from cluster.placement.versions import versions
from cluster.runners.build import make_parameters
from cluster.runners.ceiling_watch import CeilingWatch
from cluster.runners.on_ray import cluster_inventory
from cluster.runners.on_ray.actors import CheckpointHost, LedgerHost, ReplicaHost, WeightsHost
from cluster.runners.on_ray.autoscaler import request_nodes
from cluster.runners.on_ray.cluster_of_run import LOOPBACK, Cluster
from cluster.runners.on_ray.credentials import RunToken
from cluster.runners.on_ray.handles import (
    CHECKPOINTS,
    CHILD_WEIGHTS,
    LEDGER,
    Connections,
    Handle,
    OneAtATime,
    StoreShards,
    WeightsAccess,
    actor,
    open_store,
)
from cluster.runners.on_ray.shard_hosts import (
    give_first_values,
    on_seat,
    policy_shards,
    start_shards,
    stop_shards,
    weights_shards,
)
from cluster.runners.on_ray.worker_group import WorkerActors
from cluster.runners.shared_weights import make_weights
from cluster.runners.trainer import training_facts
from cluster.storage.errors import EndedEarly, Stopped
from cluster.storage.run_folder import RunFolder
from controller.searcher import keeps_weights

RETRY_DELAY_S = 0.2
"""Seconds between two calls to a pool that is restarting."""

SETTLING_S = 10.0
"""Seconds that a run waits at its end for what the pool still records."""

POLL_INTERVAL_S = 1.0
"""Seconds between two checks whether a stop of the run is requested."""

NODE_POLL_INTERVAL_S = 2.0
"""Seconds between two polls of the cluster's nodes."""

Watch = Callable[[Callable[[], object]], AbstractContextManager[object]]


def run_distributed(
    config: RunConfig,
    folder: RunFolder,
    cluster: Cluster,
    watch: Watch,
    report: Callable[[str], object],
    observe: Observe = unobserved,
) -> None:
    """Run the search to its end.

    Args:
        config: what to run.
        folder: of the run, on this node's disk.
        cluster: on which it runs.
        watch: shows the run while it runs, and calls its argument regularly as the run's heartbeat.
        report: called with a sentence on where everything runs, on what the run waits for, and on nodes and workers
            that join and leave.
        observe: given a function that reads a shard's counters.
    """
    actor.cache_clear()  # an earlier run of this process had actors of the same names on a Ray that is gone
    # The folder is on this node, and so is everything that writes into it but the shards.
    here: dict[str, Any] = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    }
    ledger: Handle = LedgerHost.options(**here, name=LEDGER).remote(
        folder.ledger, config.seed, config.max_children, dict(config.files)
    )
    searcher = config.make_searcher()
    groups, weights = make_parameters(config, searcher), make_weights(config, searcher)
    seats = _seats(config, folder, cluster, config.weights.weights_shards if weights else 0, report)
    # Processes start without waiting for one another. The few hosts come first: where many share few cores, they start
    # in the order of their requests, and workers have nothing to do without the hosts. Shards and workers call the
    # ledger from their start on, and so wait until it has begun.
    hosts: list[Handle] = [ReplicaHost.options(**on_seat(seat)).remote() for seat in seats.replicas]
    _begin(config, ledger, seats, cluster.resources)
    requested = request_nodes(seats, cluster.resources, report) if cluster.can_grow else nullcontext()
    with watch(OneAtATime(ledger.beat)), requested:
        checkpoints, kept = _keep_checkpoints(config, folder, ledger, here)
        held = [ledger, *checkpoints]
        if inherits := keeps_weights(searcher):
            held.append(WeightsHost.options(**here, name=CHILD_WEIGHTS).remote(folder.child_weights))
        exact = cluster.joined and not cluster.can_grow
        token = RunToken.new(os.environ, secrets.token_urlsafe(32))
        interface = None if cluster.joined else LOOPBACK
        shards = policy_shards(config, folder, groups)
        shared = weights_shards(config, folder, weights)
        shard_hosts = start_shards(shards, seats.shards, interface, token)
        weight_hosts = start_shards(shared, seats.weights, interface, token)
        workers = WorkerActors(
            config,
            seats,
            cluster.resources,
            cluster.nodes,
            exact=exact,
            here=here,
            replaces=cluster.joined,
            weights=shared
            and WeightsAccess(layout=shared.layout, token=token, policy=shards.layout if shards else None),
            inherits=inherits,
        )
        ray.get(kept)
        if shards:
            give_first_values(shards, shard_hosts, groups, token)
        if shared and weights:
            give_first_values(shared, weight_hosts, (weights,), token)
        connections = Connections(
            layout=shards and shards.layout,
            token=token,
            ledger=ledger,
            pool=workers.pool,
            weights=shared.layout if shared and config.weights.causal else None,
        )
        ended = [
            host.run.remote(config, list(seat.parts), connections)
            for host, seat in zip(hosts, seats.replicas, strict=True)
        ]
        serving = [host.serve.remote() for host in (*shard_hosts, *weight_hosts)]
        poll = functools.partial(workers.poll, ledger, report) if cluster.joined else lambda: None
        try:
            with _observed(shards, token, observe), _observed(shared, token, observe):
                _wait(ended, serving, workers.pool, _end_of(config, folder, seats), report, poll)
        finally:
            _end(hosts, [*shard_hosts, *weight_hosts], [*ended, *serving])
        del held  # Ray ends an actor without a handle: these were needed until here


def _seats(
    config: RunConfig, folder: RunFolder, cluster: Cluster, weights_shards: int, report: Callable[[str], object]
) -> Plan:
    """Plan who runs where, and report what is not as one would expect."""
    seats = cluster.plan(
        config.topology, cluster_inventory.folder_visibility(folder.path, cluster.nodes), weights_shards
    )
    placed = [f"Placed {seats}"] * (len(cluster.nodes) > 1) + [seats.staffing] * (seats.seated < seats.wanted)
    for text in (*placed, *seats.notes):
        report(text)
    return seats


def _begin(config: RunConfig, ledger: Handle, seats: Plan, resources: WorkerResources) -> None:
    """Record that the run starts or resumes."""
    facts = asdict(versions()) | training_facts(config)
    vary = config.topology.gpus_per_child == AUTO
    gpus = resources.gpus_per_worker
    ray.get(ledger.begin.remote(workers=seats.seated, versions=facts, gpus=gpus, shares_vary=vary))


def _end(hosts: list[Handle], shard_hosts: list[Handle], ended: list[ray.ObjectRef]) -> None:
    """Kill the hosts first: otherwise Ray retries their calls and logs errors at shutdown.

    The shards are stopped before, so that their files have everything; one that is killed may leave a journal.
    """
    for host in hosts:
        ray.kill(host)
    stop_shards(shard_hosts)
    for host in shard_hosts:
        ray.kill(host)
    if ended:
        ray.wait(ended, num_returns=len(ended), timeout=POLL_INTERVAL_S)


def _keep_checkpoints(
    config: RunConfig, folder: RunFolder, ledger: Handle, here: dict[str, Any]
) -> tuple[list[Handle], list[ray.ObjectRef]]:
    """Start the actor that keeps the children's checkpoints, if they save any; it first removes those of ended ones.

    Returns:
        The actor, and what returns once it has.
    """
    if not config.failures.checkpoint_children:
        return [], []
    host: Handle = CheckpointHost.options(**here, name=CHECKPOINTS).remote(folder.checkpoints)
    return [host], [host.keep_only.remote(ledger.open_children.remote())]


def _wait(
    ended: list[ray.ObjectRef],
    serving: list[ray.ObjectRef],
    pool: Handle,
    end_of: Callable[[], EndedEarly | None],
    report: Callable[[str], object],
    poll: Callable[[], None],
) -> None:
    """Wait for all replicas, and call `poll` every few seconds.

    Args:
        ended: the replicas' hosts, which return at the end of the search.
        serving: the shards' hosts, which return only with an error.
        pool: of the run.
        end_of: returns why the run must end before, if it must.
        report: called with a sentence on that, and with the pool's news.
        poll: looks for nodes and workers that join and leave.

    Raises:
        Stopped: a stop was requested, and no child is in training any more.
        CeilingReached: a ceiling of the run is used up, and no child is in training any more.
        RayError: of a replica's or a shard's host that failed permanently, or of a pool without workers.
    """
    news, polled_at = pool.next_news.remote(), time.monotonic()
    why: EndedEarly | None = None
    stop = None
    while ended:
        if time.monotonic() - polled_at > NODE_POLL_INTERVAL_S:
            poll()
            polled_at = time.monotonic()
        # Also while the pool has news all the time. A stop may be requested while the last children at a ceiling end.
        if not isinstance(why, Stopped) and (end := end_of()) and type(end) is not type(why):
            why = end
            what = "Stopping" if isinstance(end, Stopped) else f"Ending, as {end}"
            report(f"{what}: no more children are started; waiting for those in training ...")
            stop = pool.stop.remote(give_back=isinstance(end, Stopped))
        done, _ = ray.wait([*ended, news, *([stop] if stop else []), *serving], num_returns=1, timeout=POLL_INTERVAL_S)
        if stop and stop in done:
            ray.get(stop)
            assert why is not None
            raise why
        if news in done:
            try:
                report(ray.get(news))
            except RayActorError:  # the pool is restarting
                time.sleep(RETRY_DELAY_S)
            news = pool.next_news.remote()
        elif done:
            ray.get(done)  # a shard host ends only with an error
            ended.remove(done[0])
    # The pool may record the end of an attempt a moment after the replica has recorded the child, and needs the ledger.
    with suppress(RayActorError, GetTimeoutError):
        ray.get(pool.stop.remote(give_back=False), timeout=SETTLING_S)


def _end_of(config: RunConfig, folder: RunFolder, seats: Plan) -> Callable[[], EndedEarly | None]:
    """Return the function that says why the run must end: a stop was requested, or a ceiling is used up."""
    ceilings = CeilingWatch(config, folder, seats.wanted)
    return lambda: Stopped() if folder.stop_requested() else ceilings.reached()


@contextmanager
def _observed(shards: StoreShards | None, token: RunToken, observe: Observe) -> Iterator[None]:
    """Expose the shards' counters to the metrics, without retries: an unreachable shard is itself reported."""
    if shards is None or observe is unobserved:
        yield
        return
    store = open_store(
        shards.layout,
        actor(LEDGER),
        token,
        store=shards.store,
        deadline_s=POLL_INTERVAL_S,
        retry_timeout_s=0.0,
    )
    try:
        with observe(shards.layout.shards, store.shard_status, shards.store):
            yield
    finally:
        store.close()
