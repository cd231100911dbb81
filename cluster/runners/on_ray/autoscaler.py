"""Requests nodes from the autoscaler, and withdraws the request however the driver ends.

Ray keeps one list of requested nodes until a process overwrites it. So only one actor writes it, which all runs of the
cluster share and which outlives their drivers: it requests the sum of their demands, and drops the demand of a driver
that no longer repeats it. When no run has a demand, the actor ends itself.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.periodic import repeating
from cluster.placement.autoscaler_demand import DEMAND_TTL_S, REPEAT_INTERVAL_S, NodeDemand, NodeDemands
from cluster.placement.capacity import WorkerResources
from cluster.placement.plan import OFF_STABLE, Plan

REQUESTER, NAMESPACE = "autoscaler-asker", "nascluster"
"""The actor's name, the same for all runs of a cluster, whatever version of the code they run."""

POLL_INTERVAL_S = 1.0
"""Seconds between two checks for demands that have expired."""

REQUEST_TIMEOUT_S = 60.0
"""Timeout for a request to the actor; the start of its process is part of it."""

WITHDRAW_TIMEOUT_S = 10.0
"""Timeout for withdrawing the request at shutdown; failing to do so is harmless, as the demand expires."""


class AutoscalerRequester:
    """The only process that writes the autoscaler's list, for all runs."""

    def __init__(self) -> None:
        self._demands, self._lock = NodeDemands(time.monotonic()), threading.Lock()
        self._requested: list[NodeDemand] | None = None
        self._me: Any = ray.get_runtime_context().current_actor
        threading.Thread(target=self._watch, name="requester", daemon=True).start()

    def put(
        self, run: str, count: int, resources: dict[str, float], selector: dict[str, str], ttl_s: float = DEMAND_TTL_S
    ) -> None:
        """Set a run's demand, see `NodeDemands.put`; by plain values, as this actor may run another version."""
        with self._lock:
            self._demands.put(run, NodeDemand(count, resources, selector), time.monotonic(), ttl_s)
            self._request()

    def drop(self, run: str) -> None:
        """Withdraw a run's demand."""
        with self._lock:
            self._demands.drop(run)
            self._request()

    def _request(self) -> None:
        demands = self._demands.all(time.monotonic())
        if demands == self._requested:
            return
        bundles = [dict(demand.resources) for demand in demands for _ in range(demand.count)]
        selectors = [dict(demand.selector) for demand in demands for _ in range(demand.count)]
        # Ray compares a request with all resources of the cluster, not with the free ones.
        request_resources(bundles=bundles, bundle_label_selectors=selectors or None)
        self._requested = demands

    def _watch(self) -> None:
        idle = False
        while not idle:
            time.sleep(POLL_INTERVAL_S)
            with self._lock, suppress(Exception):  # the head may be unavailable for a moment; the next poll retries
                self._request()
                idle = self._demands.is_idle(time.monotonic())
        ray.kill(self._me)


@contextmanager
def request_nodes(plan: Plan, resources: WorkerResources, report: Callable[[str], object]) -> Iterator[None]:
    """Request nodes for all workers while the block lasts, and release them after it.

    The workers that wait would make the autoscaler add nodes, too, but step by step. They end with their driver's job,
    and the request soon after it.

    Args:
        plan: with more workers than have a place now; otherwise nothing is requested.
        resources: of a process of workers.
        report: called with a sentence if the request fails.
    """
    if plan.started <= plan.seated:
        yield
        return
    demand = NodeDemand(
        count=math.ceil(plan.started / resources.workers),
        resources={"GPU": resources.gpus} if resources.gpus else {"CPU": 1},
        selector=OFF_STABLE if resources.off_stable else {},
    )
    run = ray.get_runtime_context().get_job_id()

    def repeat() -> None:
        with suppress(RayError):  # the head may be unavailable for a moment
            _put(run, demand)

    try:
        try:
            _put(run, demand)
        except RayError as error:
            reason = " ".join(str(error).split())
            report(f"The autoscaler could not be asked for all nodes at once, and adds them step by step: {reason}")
        with repeating(repeat, REPEAT_INTERVAL_S, name="node requests", stop_timeout_s=WITHDRAW_TIMEOUT_S):
            yield
    finally:
        with suppress(RayError, ValueError):  # the requester has ended, or the demand expires
            ray.get(ray.get_actor(REQUESTER, NAMESPACE).drop.remote(run), timeout=WITHDRAW_TIMEOUT_S)


def _put(run: str, demand: NodeDemand) -> None:
    """Send the demand to the requester, or to its successor if it ends itself at this moment."""
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            call = requester().put.remote(run, demand.count, dict(demand.resources), dict(demand.selector))
            return ray.get(call, timeout=max(0.0, deadline - time.monotonic()))
        except RayActorError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_INTERVAL_S)


def requester() -> Any:
    """Return the cluster's requester, and start it on the driver's node if there is none.

    It is there as its process keeps a node from being idle, and the driver's node stays anyway.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return _REQUESTER.options(
        name=REQUESTER,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        num_cpus=0,
        scheduling_strategy=here,
    ).remote()


_REQUESTER: Any = ray.remote(AutoscalerRequester)
