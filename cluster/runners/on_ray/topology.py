"""A run on Ray: the topology on one page. One machine or many, started here or joined."""

import functools
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from child_trainer.tasks.summaries import TASKS
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.formatting import counted
from cluster.monitoring.metrics.shard_probe import Observe, unobserved
from cluster.placement.capacity import PROCESS_BYTES, TRAINING_BYTES, Needs, Node, Sight, needs_of
from cluster.placement.node_check import check_data, check_without_data
from cluster.placement.plan import Plan, Seat, plan
from cluster.placement.versions import versions
from cluster.runners.build import initial_values, make_layout, make_parameters, make_searcher
from cluster.runners.on_ray import cluster_inventory as survey
from cluster.runners.on_ray.actors import CheckpointHost, LedgerHost, ReplicaHost, ShardHost
from cluster.runners.on_ray.autoscaler import asking
from cluster.runners.on_ray.credentials import RunToken, check_credentials, make_token
from cluster.runners.on_ray.handles import CHECKPOINTS, LEDGER, Connections, Handle, OneAtATime, actor, open_store
from cluster.runners.on_ray.join_cluster import join
from cluster.runners.on_ray.private_api import silence_worker_deaths
from cluster.runners.on_ray.start_local_ray import start_ray
from cluster.runners.on_ray.worker_group import Fleet
from cluster.storage.errors import Stopped
from cluster.storage.run_folder import RunFolder
from controller.searcher import ParameterGroup
from ps.store import Layout

AGAIN_S = 0.2
"""Seconds between two questions to a pool that is being started again."""

LOOK_S = 1.0
"""Seconds between two looks at whether the run is asked to stop."""

NODES_S = 2.0
"""Seconds between two looks at which nodes there are."""

LOOPBACK = "127.0.0.1"
"""Where shards are served while all of the run is on a machine of our own."""

Watch = Callable[[Callable[[], object]], AbstractContextManager[object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What the run has to live on.

    Attributes:
        nodes: the machines, this one first.
        needs: what a process of workers takes.
        joined: it is there without us, and others may join it; else it is this machine alone.
        can_grow: an autoscaler may bring more nodes.
    """

    nodes: tuple[Node, ...]
    needs: Needs
    joined: bool
    can_grow: bool

    def plan(self, topology: Topology, sight: Sight) -> Plan:
        """Who runs where, with what is free now; see `cluster.placement.plan`."""
        nodes = survey.with_free(self.nodes) if self.joined else self.nodes
        return plan(nodes, topology, self.needs, sight=sight, can_grow=self.can_grow)

    def __str__(self) -> str:
        cores, gpus = (sum(getattr(node, kind) for node in self.nodes) for kind in ("cores", "gpus"))
        return f"{counted(len(self.nodes), 'node')}, {counted(cores, 'core')}, {counted(gpus, 'GPU')}"


@contextmanager
def cluster(config: RunConfig, say: Callable[[str], object]) -> Iterator[Cluster]:
    """Join the cluster that `RAY_ADDRESS` names or that runs on this machine, or else start one on this machine.

    Raises:
        ClusterError: if `RAY_ADDRESS` names a cluster that does not answer, or no Ray starts here in time.
        TaskError, StorageError: if the task cannot be loaded; on a machine of our own before Ray is started.
        PlacementError: if no worker can fit; likewise.
        CredentialsError: if the cluster's token or its certificates cannot be used.
    """
    topology = config.topology
    memory = TRAINING_BYTES if TASKS[config.task.task].trains else PROCESS_BYTES
    check_credentials(os.environ)
    joined = join(say)
    try:
        # The nodes of a cluster are asked one by one; this one need not be of those that train.
        (check_without_data if joined else check_data)(config.task)
        can_grow = joined and survey.has_autoscaler()
        nodes = survey.nodes() if joined else (survey.this_machine(),)
        needs = needs_of(topology, nodes, memory=memory, can_grow=can_grow, joined=joined)
        if not joined:
            say("Starting Ray on this machine ...")
            nodes = (_start(nodes[0], say),)
        silence_worker_deaths()  # each is reported here, by its cause
        check_credentials(os.environ, ray.util.get_node_ip_address() if joined else LOOPBACK)
        yield Cluster(nodes=nodes, needs=needs, joined=joined, can_grow=can_grow)
    finally:
        ray.shutdown()


def run_distributed(
    config: RunConfig,
    folder: RunFolder,
    cluster: Cluster,
    watch: Watch,
    say: Callable[[str], object],
    observe: Observe = unobserved,
) -> None:
    """Run the search to its end.

    Args:
        config: what to run.
        folder: where everything is kept; it must be on this node's disk.
        cluster: what there is to run on.
        watch: shows the run while it runs, and calls what it is given to say that the run is alive.
        say: told where everything runs, of what is waited for, and of nodes and workers that come and go.
        observe: given the way to ask a shard for its counters.
    """
    # The folder is on this node, and so is everything that writes into it but the shards.
    here: dict[str, Any] = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    }
    ledger: Handle = LedgerHost.options(**here, name=LEDGER).remote(folder.ledger, config.seed, config.max_children)
    seats = cluster.plan(config.topology, survey.sight(folder.path, cluster.nodes))
    placed = [f"Placed {seats}"] * (len(cluster.nodes) > 1) + [seats.staffing] * (seats.seated < seats.wanted)
    for text in (*placed, *seats.notes):
        say(text)
    ray.get(ledger.begin.remote(workers=seats.seated, versions=asdict(versions())))
    asked = asking(seats, cluster.needs, say) if cluster.can_grow else nullcontext()
    with watch(OneAtATime(ledger.beat)), asked:
        held = [ledger, *_keep_checkpoints(config, folder, ledger, here)]
        exact = cluster.joined and not cluster.can_grow
        # All are started without waiting for one another, and those first that there are few of: where many share few
        # cores, processes start in the order in which they are wanted, and workers have nothing to do without these.
        hosts: list[Handle] = [ReplicaHost.options(**_bound(seat)).remote() for seat in seats.replicas]
        token = RunToken.new(os.environ, secrets.token_urlsafe(32))
        groups = make_parameters(config, make_searcher(config))
        layout = make_layout(config, folder.identity(config), groups) if groups else None
        shard_hosts = _start_shards(layout, folder, seats, None if cluster.joined else LOOPBACK, token)
        fleet = Fleet(config, seats, cluster.needs, cluster.nodes, exact=exact, here=here, replaces=cluster.joined)
        if layout:
            _give_first_values(layout, shard_hosts, groups, token)
        connections = Connections(layout=layout, token=token, ledger=ledger, pool=fleet.pool)
        ended = [
            host.run.remote(config, list(seat.parts), connections)
            for host, seat in zip(hosts, seats.replicas, strict=True)
        ]
        serving = [host.serve.remote() for host in shard_hosts]
        look = functools.partial(fleet.look, ledger, say) if cluster.joined else lambda: None
        try:
            with _observed(layout, token, observe):
                _wait(ended, serving, fleet.pool, folder, say, look)
        finally:
            _end([*hosts, *shard_hosts], [*ended, *serving])
        del held  # Ray ends an actor that nobody holds: they had to be held until here


def _bound(seat: Seat) -> dict[str, Any]:
    """Ray's options for an actor that is to sit there, also when it is started again."""
    first, *others = (dict(wish) for wish in seat.wishes)
    return {"label_selector": first, "fallback_strategy": [{"label_selector": other} for other in others]}


def _end(hosts: list[Handle], ended: list[ray.ObjectRef]) -> None:
    """Ray would repeat what the hosts still do, and have a word to say on it when it is shut down."""
    for host in hosts:
        ray.kill(host)
    if ended:
        ray.wait(ended, num_returns=len(ended), timeout=LOOK_S)


def _keep_checkpoints(config: RunConfig, folder: RunFolder, ledger: Handle, here: dict[str, Any]) -> list[Handle]:
    """Where the children save their state, if they do; what ended children left behind is removed."""
    if not config.failures.checkpoint_children:
        return []
    host: Handle = CheckpointHost.options(**here, name=CHECKPOINTS).remote(folder.checkpoints)
    ray.get(host.keep_only.remote(ray.get(ledger.open_children.remote())))
    return [host]


def _wait(
    ended: list[ray.ObjectRef],
    serving: list[ray.ObjectRef],
    pool: Handle,
    folder: RunFolder,
    say: Callable[[str], object],
    look: Callable[[], None],
) -> None:
    """Wait for all replicas; raise what ended one of them or a shard host, or that no worker is left.

    Meanwhile `look` is called every few seconds.

    Raises:
        Stopped: nothing is in training any more.
    """
    news, stop, looked_at = pool.next_news.remote(), None, time.monotonic()
    while ended:
        if time.monotonic() - looked_at > NODES_S:
            look()
            looked_at = time.monotonic()
        if stop is None and folder.stop_asked():  # also when there always is something new
            say("Stopping: nothing more is begun, and what is in training ends first ...")
            stop = pool.stop.remote()
        done, _ = ray.wait([*ended, news, *([stop] if stop else []), *serving], num_returns=1, timeout=LOOK_S)
        if stop and stop in done:
            ray.get(stop)
            raise Stopped
        if news in done:
            try:
                say(ray.get(news))
            except RayActorError:  # the pool is being started again
                time.sleep(AGAIN_S)
            news = pool.next_news.remote()
        elif done:
            ray.get(done)  # a shard host never ends but with an error
            ended.remove(done[0])


def _start_shards(
    layout: Layout | None, folder: RunFolder, seats: Plan, interface: str | None, token: RunToken
) -> list[Handle]:
    """Begin to start the shards, if anything is to be kept on them."""
    return [
        ShardHost.options(**_bound(seat)).remote(layout, list(seat.parts), folder.shards, interface, token)
        for seat in (seats.shards if layout else ())
    ]


def _give_first_values(
    layout: Layout, hosts: list[Handle], groups: tuple[ParameterGroup, ...], token: RunToken
) -> None:
    ray.get([host.ready.remote() for host in hosts])
    store = open_store(layout, actor(LEDGER), token)
    store.initialize(initial_values(groups))
    store.close()


@contextmanager
def _observed(layout: Layout | None, token: RunToken, observe: Observe) -> Iterator[None]:
    """Let the shards be asked for their counters, without patience: one that is away is a fact to be told."""
    if layout is None or observe is unobserved:
        yield
        return
    store = open_store(layout, actor(LEDGER), token, deadline_s=LOOK_S, patience_s=0.0)
    try:
        with observe(layout.shards, store.shard_status):
            yield
    finally:
        store.close()


def _start(machine: Node, say: Callable[[str], object]) -> Node:
    """Start a Ray on this machine; the node that it is then."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    make_token(os.environ, secrets.token_hex(32))
    start_ray(int(machine.cores), say)
    return replace(machine, id=ray.get_runtime_context().get_node_id())
