"""The queue of the simulated shards: waiting times and outages."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from cluster.simulation.clock import VirtualLoop
from cluster.simulation.cluster_model import PULL_SHARE, ClusterModel
from cluster.simulation.shards import QueuedRequest, SimulatedShards

SEED = 1
MTBF_S = 10_000.0
RECOVERY_S = 100.0
ANSWER_S = 3.0

FAILS_AT, NEXT_S = (rng := random.Random(SEED)).expovariate(1 / MTBF_S), rng.expovariate(1 / MTBF_S)
"""When a single shard fails first, and how long after that again."""

Waits = tuple[float, dict[str, float]]
"""When a request was done, and the seconds of waiting by reason."""


ONE = ClusterModel(child_seconds=None, push_s=ANSWER_S / PULL_SHARE, shard_mtbf_s=MTBF_S, shard_recovery_s=RECOVERY_S)


def tell(
    story: Callable[[SimulatedShards], Coroutine[Any, Any, None]], model: ClusterModel = ONE, shards: int = 1
) -> None:
    async def work() -> None:
        await story(SimulatedShards(shards, model, SEED))

    with closing(VirtualLoop()) as loop:
        loop.run_work(work())


def now() -> float:
    return asyncio.get_running_loop().time()


async def served(shards: SimulatedShards, request: QueuedRequest) -> Waits:
    waited = Counter[str]()
    while wait := shards.wait(request):
        what, seconds = wait
        started = now()
        await asyncio.sleep(seconds)
        waited[what] += now() - started  # type: ignore[assignment]
    return now(), dict(waited)


def test_requests_are_served_first_come_first_served() -> None:
    async def story(shards: SimulatedShards) -> None:
        requests = [shards.enqueue_request(), shards.enqueue_request(), shards.enqueue_write()]
        found = await asyncio.gather(*(served(shards, request) for request in requests))
        assert [ended for ended, _ in found] == pytest.approx([ANSWER_S, 2 * ANSWER_S, 4 * ANSWER_S])
        await asyncio.sleep(100.0)
        started = now()
        assert (await served(shards, shards.enqueue_request()))[0] == pytest.approx(started + ANSWER_S)

    assert FAILS_AT > 200.0
    tell(story)


def test_the_whole_queue_waits_during_an_outage() -> None:
    """Ten requests come five seconds before it fails: one is answered in time, of another two thirds are done."""

    async def story(shards: SimulatedShards) -> None:
        started = FAILS_AT - 5.0
        await asyncio.sleep(started)
        requests = [shards.enqueue_request() for _ in range(10)]
        found = await asyncio.gather(*(served(shards, request) for request in requests))
        for place, (ended, waited) in enumerate(found, start=1):
            outage_s = RECOVERY_S if place > 1 else 0.0
            assert ended == pytest.approx(started + place * ANSWER_S + outage_s)
            assert waited.get("shards") == pytest.approx(place * ANSWER_S)
            assert waited.get("failed shards", 0.0) == pytest.approx(outage_s)
        assert shards.log.outage_s == RECOVERY_S

    tell(story)


def test_requests_during_an_outage_start_after_it() -> None:
    async def story(shards: SimulatedShards) -> None:
        await asyncio.sleep(FAILS_AT + 40.0)
        requests = [shards.enqueue_write(), shards.enqueue_request()]
        found = await asyncio.gather(*(served(shards, request) for request in requests))
        back = FAILS_AT + RECOVERY_S
        assert [ended for ended, _ in found] == pytest.approx([back + 2 * ANSWER_S, back + 3 * ANSWER_S])
        assert [waited["failed shards"] for _, waited in found] == pytest.approx([60.0, 60.0])

    assert NEXT_S > RECOVERY_S + 3 * ANSWER_S
    tell(story)


def test_waiting_is_the_queues_work_plus_all_outages() -> None:
    """Twelve shards, of which one is unavailable most of the time; overlapping outages count once."""

    async def story(shards: SimulatedShards) -> None:
        found = await asyncio.gather(*(served(shards, shards.enqueue_request()) for _ in range(500)))
        for place, (ended, waited) in enumerate(found, start=1):
            assert waited["shards"] == pytest.approx(place * ANSWER_S)
            assert sum(waited.values()) == pytest.approx(ended)
        ended, waited = found[-1]
        shards.close(ended)
        assert shards.log.failures > 10
        assert waited["failed shards"] == pytest.approx(shards.log.outage_s)
        assert waited["failed shards"] > 5 * RECOVERY_S

    tell(story, replace(ONE, push_s=12 * ONE.push_s, shard_mtbf_s=12 * 80.0), shards=12)
