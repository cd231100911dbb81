"""The line at the simulated shards: who waits for what, and until when."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from cluster.simulation.clock import VirtualLoop
from cluster.simulation.conditions import PULL_SHARE, Conditions
from cluster.simulation.shards import SimulatedShards, Turn

SEED = 1
MTBF_S = 10_000.0
RECOVERY_S = 100.0
ANSWER_S = 3.0

FAILS_AT, NEXT_S = (rng := random.Random(SEED)).expovariate(1 / MTBF_S), rng.expovariate(1 / MTBF_S)
"""When a single shard fails first, and how long after that again."""

Waits = tuple[float, dict[str, float]]
"""When a turn was had, and the seconds that were waited for each thing."""


ONE = Conditions(child_seconds=None, push_s=ANSWER_S / PULL_SHARE, shard_mtbf_s=MTBF_S, shard_recovery_s=RECOVERY_S)


def tell(
    story: Callable[[SimulatedShards], Coroutine[Any, Any, None]], conditions: Conditions = ONE, shards: int = 1
) -> None:
    async def work() -> None:
        await story(SimulatedShards(shards, conditions, SEED))

    with closing(VirtualLoop()) as loop:
        loop.carry_out(work())


def now() -> float:
    return asyncio.get_running_loop().time()


async def had(shards: SimulatedShards, turn: Turn) -> Waits:
    waited = Counter[str]()
    while wait := shards.wait(turn):
        what, seconds = wait
        begun = now()
        await asyncio.sleep(seconds)
        waited[what] += now() - begun  # type: ignore[assignment]
    return now(), dict(waited)


def test_who_comes_waits_for_those_before_and_nobody_else() -> None:
    async def story(shards: SimulatedShards) -> None:
        turns = [shards.answer(), shards.answer(), shards.keep()]
        found = await asyncio.gather(*(had(shards, turn) for turn in turns))
        assert [ended for ended, _ in found] == pytest.approx([ANSWER_S, 2 * ANSWER_S, 4 * ANSWER_S])
        await asyncio.sleep(100.0)
        begun = now()
        assert (await had(shards, shards.answer()))[0] == pytest.approx(begun + ANSWER_S)

    assert FAILS_AT > 200.0
    tell(story)


def test_nothing_of_the_line_is_done_while_a_shard_is_away() -> None:
    """Ten requests come five seconds before it fails: one is answered in time, of another two thirds are done."""

    async def story(shards: SimulatedShards) -> None:
        begun = FAILS_AT - 5.0
        await asyncio.sleep(begun)
        turns = [shards.answer() for _ in range(10)]
        found = await asyncio.gather(*(had(shards, turn) for turn in turns))
        for place, (ended, waited) in enumerate(found, start=1):
            away = RECOVERY_S if place > 1 else 0.0
            assert ended == pytest.approx(begun + place * ANSWER_S + away)
            assert waited.get("shards") == pytest.approx(place * ANSWER_S)
            assert waited.get("failed shards", 0.0) == pytest.approx(away)
        assert shards.log.away_s == RECOVERY_S

    tell(story)


def test_who_comes_while_a_shard_is_away_begins_when_it_is_back() -> None:
    async def story(shards: SimulatedShards) -> None:
        await asyncio.sleep(FAILS_AT + 40.0)
        turns = [shards.keep(), shards.answer()]
        found = await asyncio.gather(*(had(shards, turn) for turn in turns))
        back = FAILS_AT + RECOVERY_S
        assert [ended for ended, _ in found] == pytest.approx([back + 2 * ANSWER_S, back + 3 * ANSWER_S])
        assert [waited["failed shards"] for _, waited in found] == pytest.approx([60.0, 60.0])

    assert NEXT_S > RECOVERY_S + 3 * ANSWER_S
    tell(story)


def test_however_often_shards_fail_the_line_takes_its_work_and_their_absence() -> None:
    """Twelve shards, of which one is away most of the time; outages that overlap are one."""

    async def story(shards: SimulatedShards) -> None:
        found = await asyncio.gather(*(had(shards, shards.answer()) for _ in range(500)))
        for place, (ended, waited) in enumerate(found, start=1):
            assert waited["shards"] == pytest.approx(place * ANSWER_S)
            assert sum(waited.values()) == pytest.approx(ended)
        ended, waited = found[-1]
        shards.close(ended)
        assert shards.log.failures > 10
        assert waited["failed shards"] == pytest.approx(shards.log.away_s)
        assert waited["failed shards"] > 5 * RECOVERY_S

    tell(story, replace(ONE, push_s=12 * ONE.push_s, shard_mtbf_s=12 * 80.0), shards=12)
