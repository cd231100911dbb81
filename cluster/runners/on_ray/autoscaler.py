"""Asks a cluster's autoscaler for a run's nodes, so that no end of the run's driver leaves them asked for.

Ray keeps one list of what is asked for, until somebody overwrites it. So nobody writes it but one actor, the asker,
which all runs of the cluster share and which outlives their drivers: it asks for the sum of what they want, and a
driver that does not repeat its want is no more. When nobody wants anything, the asker ends itself.
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
from cluster.placement.autoscaler_demand import LASTS_S, REPEAT_S, Want, Wants
from cluster.placement.capacity import Needs
from cluster.placement.plan import OFF_STABLE, Plan

ASKER, NAMESPACE = "autoscaler-asker", "nascluster"
"""Its name, the same for all runs of a cluster."""

LOOK_S = 1.0
"""Seconds between two looks at whose want has lapsed."""

ANSWER_S = 60.0
"""Seconds in which the asker answers; the start of its process is part of it."""

LEAVE_S = 10.0
"""The same when the run is over and nothing is lost if it does not."""


class Asker:
    """Alone asks the autoscaler, for all runs."""

    def __init__(self) -> None:
        self._wants, self._lock = Wants(time.monotonic()), threading.Lock()
        self._asked: list[Want] | None = None
        self._me: Any = ray.get_runtime_context().current_actor
        threading.Thread(target=self._watch, name="asker", daemon=True).start()

    def put(
        self, run: str, count: int, resources: dict[str, float], selector: dict[str, str], lasts_s: float = LASTS_S
    ) -> None:
        """See `Wants.put`; plain values, as the asker may run another state of the code than its caller."""
        with self._lock:
            self._wants.put(run, Want(count, resources, selector), time.monotonic(), lasts_s)
            self._ask()

    def drop(self, run: str) -> None:
        """See `Wants.drop`."""
        with self._lock:
            self._wants.drop(run)
            self._ask()

    def _ask(self) -> None:
        wanted = self._wants.all(time.monotonic())
        if wanted == self._asked:
            return
        bundles = [dict(want.resources) for want in wanted for _ in range(want.count)]
        selectors = [dict(want.selector) for want in wanted for _ in range(want.count)]
        # What is asked for is compared with all that the cluster has, not with what is free.
        request_resources(bundles=bundles, bundle_label_selectors=selectors or None)
        self._asked = wanted

    def _watch(self) -> None:
        over = False
        while not over:
            time.sleep(LOOK_S)
            with self._lock, suppress(Exception):  # the head may be away for a moment; it is tried again
                self._ask()
                over = self._wants.over(time.monotonic())
        ray.kill(self._me)


@contextmanager
def asking(plan: Plan, needs: Needs, say: Callable[[str], object]) -> Iterator[None]:
    """Have the autoscaler bring nodes for all workers while the block lasts, and let it take them back after.

    The workers that wait would make it grow, too, but a step at a time. They end with their driver's job, and what is
    asked for here soon after it.

    Args:
        plan: with more workers than have a place now, or nothing is asked for.
        needs: what a process of workers takes.
        say: told if it cannot be asked.
    """
    if plan.started <= plan.seated:
        yield
        return
    want = Want(
        count=math.ceil(plan.started / needs.workers),
        resources={"GPU": needs.gpus} if needs.gpus else {"CPU": 1},
        selector=OFF_STABLE if needs.off_stable else {},
    )
    run = ray.get_runtime_context().get_job_id()

    def put_again() -> None:
        with suppress(RayError):  # the head may be away for a moment
            _put(run, want)

    try:
        try:
            _put(run, want)
        except RayError as error:
            say(f"The autoscaler is not asked for nodes, and grows step by step: {' '.join(str(error).split())}")
        with repeating(put_again, REPEAT_S, name="asking", stop_timeout_s=LEAVE_S):
            yield
    finally:
        with suppress(RayError, ValueError):  # no asker is there any more, or it drops the want by itself
            ray.get(ray.get_actor(ASKER, NAMESPACE).drop.remote(run), timeout=LEAVE_S)


def _put(run: str, want: Want) -> None:
    """Tell the asker, or another one if that ends itself at this moment."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            told = asker().put.remote(run, want.count, dict(want.resources), dict(want.selector))
            return ray.get(told, timeout=max(0.0, deadline - time.monotonic()))
        except RayActorError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)


def asker() -> Any:
    """The cluster's, started if there is none: beside this driver, as it keeps its node from being idle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return _ASKER.options(
        name=ASKER,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        num_cpus=0,
        scheduling_strategy=here,
    ).remote()


_ASKER: Any = ray.remote(Asker)
