"""The run's workers on Ray, as nodes come and go."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.config.run_config import RunConfig
from cluster.placement.capacity import Needs, Node, Recent, places_for, room_for
from cluster.placement.plan import NODE_LABEL, OFF_STABLE, Plan, comings_and_goings
from cluster.placement.restart_backoff import Replacements
from cluster.pool.protocol import Muster
from cluster.pool.supervision import Terms
from cluster.runners.on_ray import cluster_inventory as survey
from cluster.runners.on_ray import private_api
from cluster.runners.on_ray.actors import PoolHost, Worker
from cluster.runners.on_ray.handles import POOL, Handle, worker_name

START_S = 60.0
"""Seconds in which a worker that has found its place is up, also on a busy node."""


class Fleet:
    """The workers, and the pool, which uses each of them from the moment that it is up.

    A worker whose node goes waits, in Ray's keeping, for room on another. Where a node comes that has room for more
    than there are, more are started, up to as many as are wanted. For one that could not be started where it came to,
    another is started by and by.

    Args:
        config: what to run.
        plan: with whom to start.
        needs: what a process of workers takes.
        nodes: what the plan was made for.
        exact: have Ray keep to their memory, too; not where an autoscaler might know of no node with any.
        here: options that bind the pool to the driver's node.
        replaces: `look` is called now and then.
    """

    def __init__(
        self,
        config: RunConfig,
        plan: Plan,
        needs: Needs,
        nodes: tuple[Node, ...],
        *,
        exact: bool,
        here: dict[str, Any],
        replaces: bool,
    ) -> None:
        self._config, self._plan, self._needs, self._nodes = config, plan, needs, nodes
        self._replaces = replaces
        # A worker on a GPU takes no core: some machines have more GPUs to share out than cores.
        self._options: dict[str, Any] = {"num_gpus": needs.gpus, "num_cpus": needs.cores}
        if exact and all(node.memory for node in nodes):
            self._options["memory"] = needs.memory
        if needs.off_stable:
            self._options["label_selector"] = dict(OFF_STABLE)
        # Before the workers: where many share few cores, processes are started in the order in which they are wanted.
        self.pool: Handle = self._open(here, plan.started)
        self._workers: list[Handle] = []
        self._slots = 0
        self._start(plan.started)
        self._recorded, self._places = plan.seated, Recent(START_S)
        self._places.most(plan.seated, time.monotonic())
        self._muster = Muster(up={})
        self._replacements = Replacements()
        self._told: list[ray.ObjectRef] = []

    def look(self, ledger: Handle, say: Callable[[str], object]) -> None:
        """Use the nodes that have come, and tell the ledger, the pool and a person of those that have gone.

        Waits for nobody: the pool may just be starting again, and is told at the next look.
        """
        self._hear()
        before, self._nodes = self._nodes, survey.nodes()
        held = room_for(self._nodes, self._needs, self._plan.hosts, self._plan.wanted)
        self._start(held)
        has = places_for(self._nodes, self._needs, self._plan.hosts, self._slots, self._muster.up)
        # A worker that is starting has its place and is not up yet, which looks as if others had it.
        workers = min(self._slots, held, self._places.most(has, time.monotonic()))
        for text in comings_and_goings(before, self._nodes, self._muster.up, workers, self._needs):
            say(text)
        if not self._told:
            self._told = [self.pool.grow.remote(self._slots, self._replace())]
            if workers != self._recorded:
                self._told.append(ledger.staff.remote(workers))
                self._recorded = workers

    def _start(self, slots: int) -> None:
        """Start workers until there are so many; there never are fewer."""
        each = self._needs.workers
        for first in range(self._slots, slots, each):
            self._workers.append(self._worker(range(first, min(first + each, slots)), self._options))
        self._slots = max(self._slots, slots)

    def _worker(self, slots: range, options: dict[str, Any]) -> Handle:
        name = worker_name(slots.start, self._needs.workers)
        return Worker.options(**options, name=name, max_concurrency=len(slots)).remote(self._config, slots)

    def _replace(self) -> list[int]:
        """Start others for workers that were lost, and give their slots."""
        now, each, known = time.monotonic(), self._needs.workers, self._replacements
        for number in {slot // each for slot in self._muster.lost}:
            if not known.waits(number):
                known.lost(number, private_api.actor_process(self._workers[number]).node, now)
                ray.kill(self._workers[number])  # or its name would not be free
        begun: list[int] = []
        for number in known.due(now):
            slots = range(number * each, min((number + 1) * each, self._slots))
            try:
                self._workers[number] = self._worker(slots, avoiding(self._options, known.refused_by(number)))
            except ValueError:  # the name is not free yet
                known.lost(number, None, now)
            else:
                begun += slots
        return begun

    def _open(self, here: dict[str, Any], slots: int) -> Handle:
        failures, topology = self._config.failures, self._config.topology
        terms = Terms(
            rules=failures.rules,
            reactions=failures.reactions,
            batch_size=self._config.budget.batch_size,
            renew_crashed=self._needs.gpus > 0,
            replaced=self._replaces,
        )
        # All children at once, the workers' signs of life, and what callers that died still wait for.
        most_calls = 10 * topology.replicas * topology.children + self._plan.wanted + 1_000
        pool = PoolHost.options(**here, name=POOL, max_concurrency=most_calls)
        return pool.remote(slots, terms, self._needs.workers)

    def _hear(self) -> None:
        """What the pool has answered to the last look."""
        ready, _ = ray.wait(self._told, num_returns=len(self._told), timeout=0) if self._told else ([], [])
        if len(ready) < len(self._told) or not ready:
            return
        with suppress(RayError):  # the pool may have died of it, which whoever waits for it hears
            self._muster = ray.get(self._told)[0]
        self._told = []


def avoiding(options: dict[str, Any], nodes: Collection[str]) -> dict[str, Any]:
    """The options of an actor that does not come to these nodes while there is room on others."""
    if not nodes:
        return options
    selector = dict(options.get("label_selector", {}))
    elsewhere = {**selector, NODE_LABEL: f"!in({','.join(sorted(nodes))})"}
    return {**options, "label_selector": elsewhere, "fallback_strategy": [{"label_selector": selector}]}
