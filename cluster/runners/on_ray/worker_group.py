"""The run's workers on Ray: started, replaced, and grown as nodes join and leave."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.placement.capacity import Node, SlidingMax, WorkerResources, places_for, room_for
from cluster.placement.plan import NODE_LABEL, OFF_STABLE, Plan, node_changes
from cluster.placement.restart_backoff import RestartBackoff
from cluster.pool.protocol import WorkerCensus
from cluster.pool.supervision import PoolOptions
from cluster.runners.early_stopping import early_stopping
from cluster.runners.on_ray import cluster_inventory, private_api
from cluster.runners.on_ray.actors import PoolHost
from cluster.runners.on_ray.handles import POOL, Handle, WeightsAccess, worker_name
from cluster.runners.on_ray.worker_actor import Worker

STARTUP_WINDOW_S = 60.0
"""Seconds within which a placed worker is up, also on a busy node."""


class WorkerActors:
    """The run's worker actors, and the pool, which uses each worker as soon as it is up.

    A worker whose node leaves waits in Ray for room on another node. When nodes join that have room for more workers,
    more are started, up to the number wanted. A worker that failed to start on its node is eventually replaced.

    Args:
        config: of the run.
        plan: with the workers to start with.
        resources: of a process of workers.
        nodes: for which the plan was made.
        exact: whether Ray reserves the workers' memory, too; not with an autoscaler, whose node types may name none.
        here: options that bind the pool to the driver's node.
        replaces: whether `poll` is called regularly.
        weights: how workers reach the weights that children share, if they do.
        inherits: whether children begin with the weights of others, so that workers keep them.
    """

    def __init__(  # noqa: PLR0913 - keywords that mean one thing each
        self,
        config: RunConfig,
        plan: Plan,
        resources: WorkerResources,
        nodes: tuple[Node, ...],
        *,
        exact: bool,
        here: dict[str, Any],
        replaces: bool,
        weights: WeightsAccess | None = None,
        inherits: bool = False,
    ) -> None:
        self._inherits = inherits
        self._config, self._plan, self._resources, self._nodes = config, plan, resources, nodes
        self._replaces, self._weights = replaces, weights
        # A worker on a GPU takes no core: some machines hold more workers on GPUs than they have cores.
        self._options: dict[str, Any] = {"num_gpus": resources.gpus, "num_cpus": resources.cores}
        if exact and all(node.memory for node in nodes):
            self._options["memory"] = resources.memory
        if resources.off_stable:
            self._options["label_selector"] = dict(OFF_STABLE)
        # Before the workers: where many processes share few cores, they start in the order of their requests.
        self.pool: Handle = self._open(here, plan.started)
        self._workers: list[Handle] = []
        self._slots = 0
        self._start(plan.started)
        self._recorded, self._places = plan.seated, SlidingMax(STARTUP_WINDOW_S)
        self._places.update(plan.seated, time.monotonic())
        self._census = WorkerCensus(up={})
        self._backoff = RestartBackoff()
        self._calls: list[ray.ObjectRef] = []

    def poll(self, ledger: Handle, report: Callable[[str], object]) -> None:
        """Start workers on nodes that have joined, and inform the ledger, the pool and the user of changes.

        Does not wait for the pool's answer: the pool may be restarting, and is informed at the next poll.
        """
        self._receive_answers()
        before, self._nodes = self._nodes, cluster_inventory.nodes()
        held = room_for(self._nodes, self._resources, self._plan.hosts, self._plan.wanted)
        self._start(held)
        has = places_for(self._nodes, self._resources, self._plan.hosts, self._slots, self._census.up)
        # A worker that is starting uses its place but is not up yet, so that others seem to use the place.
        workers = min(self._slots, held, self._places.update(has, time.monotonic()))
        for text in node_changes(before, self._nodes, self._census.up, workers, self._resources):
            report(text)
        if not self._calls:
            self._calls = [self.pool.grow.remote(self._slots, self._replace())]
            if workers != self._recorded:
                self._calls.append(ledger.staff.remote(workers))
                self._recorded = workers

    def _start(self, slots: int) -> None:
        """Start workers until there are `slots`; their number never falls."""
        each = self._resources.workers
        for first in range(self._slots, slots, each):
            self._workers.append(self._worker(range(first, min(first + each, slots)), self._options))
        self._slots = max(self._slots, slots)

    def _worker(self, slots: range, options: dict[str, Any]) -> Handle:
        name = worker_name(slots.start, self._resources.workers)
        return Worker.options(**options, name=name, max_concurrency=len(slots)).remote(
            self._config, slots, self._weights, self._inherits
        )

    def _replace(self) -> list[int]:
        """Replace the lost workers that are due, and return their slots."""
        now, each, backoff = time.monotonic(), self._resources.workers, self._backoff
        for number in {slot // each for slot in self._census.lost}:
            if not backoff.is_waiting(number):
                backoff.record_loss(number, private_api.actor_process(self._workers[number]).node, now)
                ray.kill(self._workers[number])  # or its name would not be free
        started: list[int] = []
        for number in backoff.due(now):
            slots = range(number * each, min((number + 1) * each, self._slots))
            try:
                self._workers[number] = self._worker(slots, avoiding(self._options, backoff.refused_by(number)))
            except ValueError:  # the name is not free yet
                backoff.record_loss(number, None, now)
            else:
                started += slots
        return started

    def _open(self, here: dict[str, Any], slots: int) -> Handle:
        failures, topology = self._config.failures, self._config.topology
        options = PoolOptions(
            rules=failures.rules,
            policy=failures.policy,
            batch_size=self._config.budget.batch_size,
            renew_crashed=self._resources.gpus > 0,
            replaced=self._replaces,
            workers_per_gpu=round(1 / self._resources.gpus) if topology.gpus_per_child == AUTO else None,
            fuse_seeds=self._config.fuse_seeds,
        )
        # All children at once, the workers' heartbeats and epochs, and the pending calls of callers that died.
        max_calls = 10 * topology.replicas * topology.children + 2 * self._plan.wanted + 1_000
        pool = PoolHost.options(**here, name=POOL, max_concurrency=max_calls)
        return pool.remote(
            slots,
            options,
            self._resources.workers,
            early_stopping(self._config),
            instant=self._config.task.instant,
        )

    def _receive_answers(self) -> None:
        """Take the pool's answer to the last poll, once it is there."""
        ready, _ = ray.wait(self._calls, num_returns=len(self._calls), timeout=0) if self._calls else ([], [])
        if len(ready) < len(self._calls) or not ready:
            return
        with suppress(RayError):  # the pool may have died; the callers that wait for it report that
            self._census = ray.get(self._calls)[0]
        self._calls = []


def avoiding(options: dict[str, Any], nodes: Collection[str]) -> dict[str, Any]:
    """Return an actor's options changed so that it avoids these nodes while others have room."""
    if not nodes:
        return options
    selector = dict(options.get("label_selector", {}))
    elsewhere = {**selector, NODE_LABEL: f"!in({','.join(sorted(nodes))})"}
    return {**options, "label_selector": elsewhere, "fallback_strategy": [{"label_selector": selector}]}
