"""The pool with simulated workers, when workers, the pool itself or the calls between them fail."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from child_trainer.outcome import Cause, Failure
from cluster.pool import new_children
from cluster.pool.child_weights import LostWeights
from cluster.pool.failure_policy import ISOLATE_AFTER_LOST, MAX_LOST_ALONE, FailurePolicy, parse_failure_policy
from cluster.pool.protocol import NoWorkers, WorkerCensus
from cluster.pool.supervision import LOST_CALL_TIMEOUT_S, NO_WORKERS_NOTICE_S, Nodes, Rules
from cluster.search.records import Attempt
from tests.cluster.pool.simulated import MAX_WAIT_S, START_S, Search, good, run_virtually

SAVING = Rules(checkpoints=True)

Story = Callable[[Search], Awaitable[None]]


def tell(search: Search, story: Story | None = None, within_s: float = 10_000.0) -> Search:
    """Run the search to its end while the story happens to it."""

    async def whole() -> None:
        await search.begin()
        if story:
            await story(search)
        await search.until_all_have_ended(within_s)
        await search.pool.stop()

    run_virtually(whole())
    return search


def test_undisturbed_each_child_is_trained_once_and_no_worker_idles() -> None:
    search = tell(Search(children=10, slots=2), within_s=60)
    assert Counter(t.child_id for t in search.world.trained) == Counter(range(1, 11))
    assert all(search.attempts(i) == [("outcome", None)] for i in range(1, 11))
    assert sorted(search.world.forgotten) == list(range(1, 11))


def test_an_outcome_goes_to_its_caller_before_it_is_recorded_and_its_worker_is_used_again_after_that() -> None:
    async def whole() -> None:
        search = Search(children=3, slots=1, rules=SAVING)
        await search.begin(ask=False)
        assert await search.pool.evaluate(search.assignment(1)) == good(101)
        assert search.attempts(1) == [("None", None)]
        assert (search.slow_ledger.waiting, search.world.forgotten) == (["k0"], [])
        recorded = search.now() + MAX_WAIT_S
        until = asyncio.create_task(search.pool.evaluate(search.assignment(1)))  # again: it has the outcome
        assert await until == good(101)
        assert search.now() < recorded
        # The next child needs the worker, so that nothing waits any more.
        assert await search.pool.evaluate(search.assignment(2)) == good(102)
        assert search.attempts(1) == [("outcome", None)]
        assert search.world.forgotten == [1]
        assert search.now() < recorded + 10
        await asyncio.sleep(MAX_WAIT_S + 1)
        assert search.attempts(2) == [("outcome", None)]
        assert search.world.forgotten == [1, 2]
        assert [order.assignment.child_id for order in search.world.orders] == [1, 2]

    run_virtually(whole())


@pytest.mark.parametrize("asks", [False, True], ids=["nobody asks for", "its replica asks again for"])
def test_an_outcome_that_nobody_has_recorded_when_the_pool_dies_is_its_workers_still(asks: bool) -> None:
    async def whole() -> None:
        search = Search(children=1, slots=1)
        await search.begin(ask=False)
        await search.pool.evaluate(search.assignment(1))
        search.start_pool(ask=False)
        if asks:
            assert await search.pool.evaluate(search.assignment(1)) == good(101)
        await asyncio.sleep(MAX_WAIT_S + 5)
        assert search.attempts(1) == [("outcome", None)]
        assert len(search.world.trained) == 1

    run_virtually(whole())


def test_a_replica_that_records_the_outcome_first_ends_the_attempt_and_frees_the_worker_like_the_pool() -> None:
    async def whole() -> None:
        search = Search(children=2, slots=1)
        await search.begin(ask=False)
        outcome = await search.pool.evaluate(search.assignment(1))
        search.ledger.finish(1, outcome, 0.5)
        assert search.attempts(1) == [("outcome", None)]
        await search.pool.evaluate(search.assignment(2))
        assert search.attempts(1) == [("outcome", None)]
        assert [child.reward for child in search.ledger.history()] == [0.5]
        assert search.world.forgotten == [1]

    run_virtually(whole())


def test_a_failure_is_recorded_before_it_goes_to_its_caller() -> None:
    async def whole() -> None:
        search = Search(children=1, slots=1, results={1: Cause.DIVERGED}, policy=FailurePolicy(max_attempts=1))
        await search.begin(ask=False)
        outcome = await search.pool.evaluate(search.assignment(1))
        assert outcome.failure is not None
        assert search.attempts(1) == [("outcome", "diverged")]

    run_virtually(whole())


def test_the_ledger_is_asked_for_the_attempts_at_a_child_that_is_requested_again_and_not_at_a_new_one() -> None:
    asked: list[int] = []

    async def story(search: Search) -> None:
        attempts = search.pool._backlog._ledger.attempts

        async def noting(child_id: int) -> Sequence[Attempt]:
            asked.append(child_id)
            return await attempts(child_id)

        search.pool._backlog._ledger.attempts = noting  # type: ignore[method-assign]
        await search.until_all_have_ended()
        assert asked == []
        outcome = await search.pool.evaluate(search.assignment(1))  # whose answer was lost
        assert (asked, outcome) == ([1], good(101))

    search = tell(Search(children=3, slots=2, new=True), story)
    assert [search.attempts(child) for child in (1, 2, 3)] == [[("outcome", None)]] * 3


def test_new_children_are_those_after_the_start_and_each_of_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_children, "MAX_NEW", 4)
    new = new_children.NewChildren(2)
    assert [child for child in (1, 2, 3, 6, 5, 3, 5, 7) if new.take(child)] == [3, 6, 5, 7]
    assert new.take(9)  # the fifth: the older ones are forgotten, and no longer new
    assert not any(map(new.take, (3, 4, 5, 6, 7, 9)))
    assert new.take(8)


def test_a_killed_workers_child_is_trained_elsewhere_at_once() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.kill(search.slot_of(1))

    search = tell(Search(children=2, slots=3), story)
    assert search.attempts(1) == [("retry", "crashed"), ("outcome", None)]
    first, second = search.ledger.attempts(1)
    assert first.slot != second.slot
    assert second.started_at < START_S + 5 + START_S + 1
    text = first.outcome.failure.message  # type: ignore[union-attr]
    assert text.startswith(f"{first.worker} exited without a message")


def test_the_only_worker_gets_the_child_again() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.kill(search.slot_of(1))

    search = tell(Search(children=1, slots=1), story)
    assert [a.slot for a in search.ledger.attempts(1)] == [0, 0]


def test_a_lost_call_is_not_a_failed_attempt() -> None:
    """The worker's report has the outcome, which counts: nothing is trained twice."""

    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        slot = search.slot_of(1)
        search.world.cut(slot)

    search = tell(Search(children=2, slots=2), story)
    assert search.attempts(1) == [("outcome", None)]
    assert len(search.world.trained) == 2


def test_the_late_result_of_an_abandoned_attempt_is_not_a_second_outcome() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        slot = search.slot_of(1)
        search.world.mute(slot)
        search.world.cut(slot)

    search = tell(Search(children=2, slots=3, seconds=lambda i: 40.0 if i == 1 else 100.0), story)
    first, second = search.ledger.attempts(1)
    assert (first.verdict, first.cause, first.outcome) == ("late", Cause.CRASHED, good(101))
    assert (second.verdict, second.cause) == ("outcome", None)
    assert first.slot != second.slot
    assert second.started_at < START_S + 5 + LOST_CALL_TIMEOUT_S + 3
    assert len(search.ended_at) == 2
    assert len(search.world.trained) == 3


def test_a_worker_without_heartbeats_times_out_and_is_ended() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        slot = search.slot_of(1)
        search.world.mute(slot)

    search = tell(Search(children=1, slots=2, seconds=lambda _: 300.0, rules=Rules(heartbeat_timeout_s=30.0)), story)
    assert search.attempts(1) == [("retry", "crashed"), ("outcome", None)]
    assert search.world.restarts == [search.ledger.attempts(1)[0].slot]


def test_a_child_that_hangs_is_killed_in_time() -> None:
    search = tell(
        Search(children=3, slots=1, seconds=lambda i: 1e6 if i == 2 else 10.0, rules=Rules(child_timeout_s=60))
    )
    assert search.attempts(2) == [("outcome", "timeout")]
    assert search.world.restarts == [0]
    assert search.ended_at[2] < 100
    assert search.attempts(3) == [("outcome", None)]
    text = search.ledger.attempts(2)[0].outcome.failure.message  # type: ignore[union-attr]
    assert "a child may take 60 s" in text


@pytest.mark.parametrize(
    ("cause", "text", "attempts"),
    [
        (Cause.CRASHED, "", [("retry", "crashed")] * 2 + [("outcome", "crashed")]),
        (Cause.DIVERGED, "", [("outcome", "diverged")]),
        (Cause.DIVERGED, "diverged=retry", [("retry", "diverged")] * 2 + [("outcome", "diverged")]),
        (Cause.CRASHED, "crashed=drop", [("outcome", "crashed")]),
    ],
)
def test_failures_follow_the_policy_of_their_cause(cause: Cause, text: str, attempts: list[tuple[str, str]]) -> None:
    policy = FailurePolicy(max_attempts=3, by_cause=parse_failure_policy(text))
    search = tell(Search(children=2, slots=2, results={1: cause}, policy=policy))
    assert search.attempts(1) == attempts
    assert search.attempts(2) == [("outcome", None)]


def test_each_attempt_after_out_of_memory_has_half_the_batch() -> None:
    policy = FailurePolicy(max_attempts=3, by_cause=parse_failure_policy("out_of_memory=smaller-batch"))
    search = tell(Search(children=1, slots=1, results={1: Cause.OUT_OF_MEMORY}, policy=policy))
    assert [t.batch_size for t in search.world.trained] == [None, 32, 16]
    assert [a.batch_size for a in search.ledger.attempts(1)] == [None, 32, 16]


def test_preemptions_are_no_failures_and_their_worker_is_restarted() -> None:
    async def story(search: Search) -> None:
        for _ in range(5):
            await asyncio.sleep(START_S + 5)
            for process in search.world.processes.values():
                if process.key:
                    process.give_back.set()  # as SIGTERM does

    search = tell(Search(children=1, slots=1), story)
    assert search.attempts(1) == [("retry", "preempted")] * 5 + [("outcome", None)]
    assert search.world.restarts == [0] * 5


def test_a_lost_node_is_a_preemption() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.nodes_ = Nodes(alive=frozenset({"n1"}))
        search.world.gone.add(0)
        search.world.cut(0)
        search.world.kill(0)

    search = tell(Search(children=2, slots=2), story)
    (lost,) = [i for i in (1, 2) if search.ledger.attempts(i)[0].slot == 0]
    assert search.attempts(lost) == [("retry", "preempted"), ("outcome", None)]
    assert search.attempts(3 - lost) == [("outcome", None)]


def test_a_draining_node_gives_its_children_back_and_gets_no_more() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.nodes_ = replace(search.world.nodes_, draining=frozenset({"n0"}))

    search = tell(Search(children=6, slots=2, seconds=lambda _: 30.0, rules=Rules(checkpoints=True)), story)
    attempts = [attempt for i in range(1, 7) for attempt in search.ledger.attempts(i)]
    assert [(a.verdict, a.cause) for a in attempts if a.slot == 0] == [("retry", "preempted")]
    assert len(attempts) == 7


def test_workers_are_recycled() -> None:
    search = tell(Search(children=7, slots=1, rules=Rules(recycle_after=2)))
    assert search.world.restarts == [0, 0, 0]
    assert len(search.world.trained) == 7
    assert all(len(search.attempts(i)) == 1 for i in range(1, 8))


def test_a_crash_restarts_the_process_where_it_may_have_harmed_a_gpu() -> None:
    search = tell(Search(children=1, slots=1, results={1: Cause.CRASHED}, renew_crashed=True))
    assert len(search.world.restarts) == 3


@pytest.mark.parametrize("at", [START_S + 0.1 * step for step in range(0, 130, 3)])
def test_a_pool_that_dies_at_any_moment_repeats_no_training(at: float) -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(at)
        search.start_pool()

    search = tell(Search(children=4, slots=2), story, within_s=60)
    assert Counter(t.child_id for t in search.world.trained) == Counter(range(1, 5))
    for child_id in range(1, 5):
        assert search.attempts(child_id)[-1] == ("outcome", None)
        assert {verdict for verdict, _ in search.attempts(child_id)[:-1]} <= {"void"}


def test_a_stop_waits_for_children_in_training_and_begins_none() -> None:
    async def whole() -> None:
        search = Search(children=6, slots=2, seconds=lambda _: 10.0)
        await search.begin()
        await asyncio.sleep(START_S + 5)
        await search.pool.stop()
        assert sorted(t.child_id for t in search.world.trained) == [1, 2]
        assert search.ledger.running() == ()
        assert search.attempts(1) == [("outcome", None)]
        assert search.attempts(3) == []

    run_virtually(whole())


def test_a_stop_preempts_children_that_save_their_state() -> None:
    async def whole() -> None:
        search = Search(children=6, slots=2, seconds=lambda _: 1e6, rules=Rules(checkpoints=True))
        await search.begin()
        await asyncio.sleep(START_S + 5)
        await search.pool.stop()
        assert search.now() < 15
        assert search.attempts(1) == search.attempts(2) == [("retry", "preempted")]

    run_virtually(whole())


def test_at_a_ceiling_children_that_save_their_state_end_unless_a_stop_is_requested_then() -> None:
    async def whole() -> None:
        search = Search(children=6, slots=2, seconds=lambda child: 10.0 if child == 1 else 1e6, rules=SAVING)
        await search.begin()
        await asyncio.sleep(START_S + 5)
        ending = asyncio.create_task(search.pool.stop(give_back=False))
        await asyncio.sleep(20)
        assert search.attempts(1) == [("outcome", None)] and not ending.done()
        await search.pool.stop()
        assert search.attempts(2) == [("retry", "preempted")]
        assert search.attempts(3) == []
        await ending

    run_virtually(whole())


def test_the_last_workers_loss_ends_the_run() -> None:
    async def whole() -> None:
        search = Search(children=2, slots=2)
        await search.begin()
        search.world.gone.add(0)
        assert await search.pool.next_news() == "A worker is lost: its data is gone"
        await asyncio.sleep(START_S + 5)
        search.world.gone.add(1)
        search.world.kill(1)
        with pytest.raises(NoWorkers, match="no worker is left; the last one reported: its data is gone"):
            await search.pool.next_news()

    run_virtually(whole())


def test_a_child_whose_parents_weights_are_lost_ends_the_run_and_not_the_child() -> None:
    """No attempt counts: neither at the child, however often the run is resumed, nor at those behind it."""
    search = Search(children=4, slots=1)

    async def whole() -> None:
        await search.begin()
        search.world.without_weights.add(2)
        for _ in range(5):
            with pytest.raises(LostWeights, match="of child 1, with which child 2 begins: their file is missing"):
                await search.pool.next_news()
            await asyncio.sleep(100)
            search.die()
        search.world.without_weights.clear()
        await search.until_all_have_ended()

    run_virtually(whole())
    assert search.attempts(1) == [("outcome", None)]
    assert search.attempts(2) == [("void", None)] * 5 + [("outcome", None)]
    assert search.attempts(3) == search.attempts(4) == [("outcome", None)]


def test_weights_that_an_attempt_misses_after_it_was_given_up_are_not_lost() -> None:
    """Another attempt has ended the child, after which its parent's weights were removed."""
    search = Search(children=1, slots=2, rules=Rules(heartbeat_timeout_s=30.0))

    async def whole() -> None:
        await search.begin()
        search.world.restart_s, search.world.found_after_s = 100.0, 80.0
        search.world.without_weights.add(1)
        await asyncio.sleep(START_S + 5)
        search.world.mute(search.slot_of(1))
        search.world.without_weights.clear()
        await search.until_all_have_ended()
        assert search.now() < search.ledger.attempts(1)[0].started_at + 80
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                while True:
                    await search.pool.next_news()

    run_virtually(whole())
    assert search.attempts(1) == [("retry", "crashed"), ("outcome", None)]


def test_a_lost_worker_that_is_replaced_is_used_again() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 3)
        search.world.gone.update((0, 1))
        for slot in (0, 1):
            search.world.kill(slot)
        for _ in range(2):
            assert await search.pool.next_news() == "A worker is lost: its data is gone"
        assert await search.pool.grow(2) == WorkerCensus(up={}, lost=(0, 1))
        assert await search.pool.grow(2) == WorkerCensus(up={}, lost=(0, 1))  # without a replacement they stay lost
        search.world.gone.clear()
        search.world.add(1)
        await search.pool.grow(2, [1])
        await asyncio.sleep(START_S + 3)
        assert await search.pool.grow(2) == WorkerCensus(up={"n1": 1}, lost=(0,))

    search = tell(Search(children=8, slots=2, replaced=True), story, within_s=200)
    assert search.ledger.completed() == 8


def test_a_shortage_of_workers_is_reported_once_and_so_is_its_end() -> None:
    """The workers' nodes are gone, and for a while there is no node to restart their processes on."""

    async def whole() -> None:
        search = Search(children=6, slots=2)
        await search.begin()
        news: list[tuple[float, str]] = []

        async def listen() -> None:
            while True:
                news.append((search.now(), await search.pool.next_news()))

        listening = asyncio.create_task(listen())
        await asyncio.sleep(START_S + 5)
        search.world.nodes_, search.world.homeless = Nodes(), asyncio.Event()
        for slot in (0, 1):
            search.world.kill(slot)
        await asyncio.sleep(200)
        assert search.ledger.completed() == 0
        ((_, text),) = news
        assert text == "No worker has been up for 31 s: 6 children wait for one."
        search.world.nodes_ = Nodes(alive=frozenset({"n0", "n1"}))
        search.world.homeless.set()
        await search.until_all_have_ended(within_s=300)
        assert [text for _, text in news[1:]] == ["2 of 2 workers are up again."]
        listening.cancel()

    run_virtually(whole())


def test_workers_that_never_come_up_are_reported() -> None:
    async def whole() -> None:
        search = Search(children=1, slots=2)
        await search.begin()
        search.world.homeless = asyncio.Event()
        text = await asyncio.wait_for(search.pool.next_news(), NO_WORKERS_NOTICE_S + 3)
        assert text == "No worker has been up for 31 s: 1 child waits for one."

    run_virtually(whole())


def test_a_ledger_that_cannot_be_written_ends_the_run() -> None:
    async def whole() -> None:
        search = Search(children=2, slots=2)
        await search.begin()
        search.ledger.close()
        with pytest.raises(Exception, match="closed database"):
            await search.pool.next_news()

    run_virtually(whole())


def drain(search: Search, slot: int) -> None:
    search.world.nodes_ = replace(search.world.nodes_, draining=frozenset({f"n{slot % 2}"}))


EVENT_KINDS: dict[str, Callable[[Search, int], None]] = {
    "kill": lambda search, slot: search.world.kill(slot),
    "cut": lambda search, slot: search.world.cut(slot),
    "mute": lambda search, slot: search.world.mute(slot),
    "pool": lambda search, _: search.start_pool(),
    "driver": lambda search, _: search.die(),
    "drain": drain,
    "sigterm": lambda search, slot: search.world.processes[slot].give_back.set(),
}


@pytest.mark.parametrize("beats_again", [False, True])
def test_a_worker_that_hangs_while_the_pool_dies_does_not_keep_its_slot(beats_again: bool) -> None:
    """It must be killed: it will never report, and does not read requests to give its child back."""

    async def whole() -> None:
        hangs = True
        search = Search(children=2, slots=1, seconds=lambda i: 1e9 if i == 1 and hangs else 10.0)
        await search.begin()
        await asyncio.sleep(START_S + 5)
        process = search.world.processes[0]
        process.mute, process.deaf = True, True
        search.start_pool()
        hangs = False
        await asyncio.sleep(LOST_CALL_TIMEOUT_S + 10)
        process.mute = not beats_again
        await search.until_all_have_ended(within_s=300)
        assert search.world.restarts == [0]
        assert search.attempts(1) == [("retry", "crashed"), ("outcome", None)]

    run_virtually(whole())


def test_the_next_process_of_a_worker_that_died_idle_does_not_time_out() -> None:
    async def whole() -> None:
        search = Search(children=2, slots=1, seconds=lambda i: 5.0 if i == 1 else 200.0)
        await search.begin(ask=False)
        await search.replica(1)
        search.world.kill(0)
        await asyncio.sleep(10)
        await search.replica(2)
        assert search.attempts(2) == [("outcome", None)]
        assert search.world.restarts == []
        assert search.ledger.attempts(2)[0].worker == search.world.processes[0].place

    run_virtually(whole())


def test_a_timeout_ends_no_process_but_the_one_that_it_is_about() -> None:
    """It was dead already when its time was up, and the next one, which has done nothing, is being started."""

    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 60)
        search.world.kill(0)

    rules = Rules(child_timeout_s=60.5)
    search = tell(Search(children=1, slots=1, seconds=lambda _: 100.0, rules=rules), story, within_s=70)
    assert search.attempts(1) == [("outcome", "timeout")]
    assert search.world.restarts == []


def test_a_word_of_any_process_before_does_not_disturb_the_one_that_is_there() -> None:
    async def whole() -> None:
        search = Search(children=3, slots=1, rules=Rules(recycle_after=1))
        await search.begin(ask=False)
        for child in (1, 2, 3):
            await search.replica(child)
        await search.until_idle()
        await asyncio.sleep(2 * START_S)
        places = [search.ledger.attempts(child)[0].worker for child in (1, 2, 3)]
        assert len({*places, search.world.processes[0].place}) == 4
        known = len(search.world.reports)
        for place in places:
            await search.pool.beat(0, place, None)
        await asyncio.sleep(1)
        assert len(search.world.reports) == known

    run_virtually(whole())


def test_several_heartbeats_of_a_new_process_enlist_it_once() -> None:
    async def whole() -> None:
        search = Search(children=2, slots=1)
        await search.begin(ask=False)
        await search.replica(1)
        await search.until_idle()
        search.world.kill(0)
        await asyncio.sleep(START_S + 0.1)
        known = len(search.world.reports)
        place = search.world.processes[0].place
        await asyncio.gather(*(search.pool.beat(0, place, None) for _ in range(3)))
        await asyncio.sleep(1)
        assert len(search.world.reports) == known + 1

    run_virtually(whole())


def test_a_child_that_reached_the_wrong_process_has_not_failed() -> None:
    """The worker died idle, which is not known yet when the next child comes."""

    async def whole() -> None:
        search = Search(children=2, slots=1)
        await search.begin(ask=False)
        await search.replica(1)
        search.world.kill(0)
        await search.replica(2)
        assert search.attempts(2) == [("void", None), ("outcome", None)]

    run_virtually(whole())


def test_a_child_that_was_sent_to_a_dead_process_has_not_failed() -> None:
    """The worker died idle; the call to it is lost, as on Ray while the next process starts."""

    async def whole() -> None:
        search = Search(children=2, slots=1, policy=FailurePolicy(max_attempts=1))
        await search.begin(ask=False)
        await search.replica(1)
        search.world.kill(0)
        second = asyncio.create_task(search.replica(2))
        await asyncio.sleep(START_S - 0.2)  # the order has been sent by now
        search.world.cut(0)
        await second
        assert search.attempts(2) == [("void", None), ("outcome", None)]

    run_virtually(whole())


def test_a_child_that_kills_the_driver_each_time_fails_and_no_other_does() -> None:
    """It does so before any of the others has ended."""

    async def story(search: Search) -> None:
        while search.ledger.completed() < search.children:
            await asyncio.sleep(0.5)
            if any(a.child_id == 3 and search.now() - a.started_at > 2 for a in search.ledger.running()):
                search.die()

    search = tell(Search(children=8, slots=4, policy=FailurePolicy(max_attempts=1)), story)
    assert search.attempts(3) == [("lost", None)] * (ISOLATE_AFTER_LOST + MAX_LOST_ALONE)
    outcomes = {child.id: child.outcome for child in search.ledger.history()}
    failures = {child_id: outcome.failure for child_id, outcome in outcomes.items() if outcome and outcome.failure}
    message = "the run died during 10 consecutive attempts at the child"
    assert failures == {3: Failure(cause=Cause.CRASHED, message=message)}
    assert all(t.child_id != 3 for t in search.world.trained)
    assert len(search.world.trained) == 7


@pytest.mark.parametrize("at", [1.0, 4.0, 8.0, 13.0])
def test_isolated_children_are_trained_one_at_a_time(at: float) -> None:
    async def whole() -> None:
        search = Search(children=5, slots=5, seconds=lambda _: 5.0)
        await search.begin(ask=False)
        for number in range(ISOLATE_AFTER_LOST):
            for child_id in (1, 2, 3):
                search.ledger.start(child_id, "worker-0@n0:before", f"{child_id}-{number}")
            search.ledger.begin(workers=5)
        search.start_pool()
        await asyncio.sleep(at)
        search.start_pool()
        await search.until_all_have_ended()
        first, second, third = sorted(search.ended_at[child_id] for child_id in (1, 2, 3))
        assert second - first > 5
        assert third - second > 5
        assert max(search.ended_at[4], search.ended_at[5]) < 15
        assert Counter(t.child_id for t in search.world.trained) == Counter(range(1, 6))

    run_virtually(whole())


def test_of_two_open_attempts_of_one_worker_the_older_is_lost() -> None:
    """The older one was being abandoned when the pool died; its child may have been sampled later."""

    async def whole() -> None:
        search = Search(children=2, slots=1)
        await search.begin(ask=False)
        await asyncio.sleep(1)
        search.ledger.start(2, "worker-0@n0:before", "older")
        await asyncio.sleep(START_S)
        process = search.world.processes[0]
        search.ledger.start(1, process.place, "newer")
        process.last = "newer", (good(101),)
        search.start_pool()
        await search.until_all_have_ended()
        assert search.attempts(1) == [("outcome", None)]
        assert search.attempts(2) == [("lost", None), ("outcome", None)]

    run_virtually(whole())


def test_a_stop_does_not_wait_for_a_ledger_that_cannot_be_written() -> None:
    async def whole() -> None:
        search = Search(children=1, slots=1)
        await search.begin()
        await asyncio.sleep(START_S + 5)
        search.ledger.close()
        with pytest.raises(Exception, match="closed database"):
            await asyncio.wait_for(search.pool.stop(), 100)

    run_virtually(whole())


def test_a_child_that_failed_everywhere_keeps_its_place_in_line() -> None:
    """Others that come later do not go before it."""

    async def whole() -> None:
        search = Search(children=40, slots=1)
        await search.begin(ask=False)
        first = asyncio.create_task(search.replica(1))
        await asyncio.sleep(START_S + 5)
        search.world.kill(0)
        rest = [asyncio.create_task(search.chain(range(start, 41, 2))) for start in (2, 3)]
        await asyncio.gather(first, *rest)
        assert search.ended_at[1] < 60

    run_virtually(whole())


def test_a_new_pool_knows_where_a_child_has_failed() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 5)
        search.world.kill(search.slot_of(1))
        await asyncio.sleep(START_S + 3)
        search.start_pool()
        await asyncio.sleep(1)
        search.world.kill(search.slot_of(1))

    search = tell(Search(children=1, slots=3), story)
    assert len({attempt.slot for attempt in search.ledger.attempts(1)}) == 3


def test_a_child_that_a_stop_preempts_is_retried_whatever_the_policy() -> None:
    async def whole() -> None:
        policy = FailurePolicy(max_attempts=3, by_cause=parse_failure_policy("preempted=drop"))
        rules = Rules(checkpoints=True)
        search = Search(children=1, slots=1, seconds=lambda _: 1e6, rules=rules, policy=policy)
        await search.begin()
        await asyncio.sleep(START_S + 5)
        await search.pool.stop()
        assert search.attempts(1) == [("retry", "preempted")]

    run_virtually(whole())


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 12),
        st.sampled_from([*EVENT_KINDS, "cut and mute", "kill and pool"]),
        st.integers(0, 2),
    ),
    max_size=12,
).filter(lambda events: sum(what == "driver" for _, what, _ in events) < ISOLATE_AFTER_LOST + MAX_LOST_ALONE)


# A worker's result arrives at the very moment at which its attempt is abandoned: it must not be recorded first.
@example(
    events=[(0.0, "mute", 1), (2.0, "pool", 0), (2.0, "sigterm", 1), (12.0, "cut", 1)],
    fails={},
    new=False,
    fuse_seeds=1,
)
@given(
    events=EVENTS,
    fails=st.dictionaries(st.integers(1, 8), st.sampled_from(list(Cause)), max_size=3),
    new=st.booleans(),
    fuse_seeds=st.sampled_from((1, 3)),
)
@settings(max_examples=200)
def test_whatever_happens_each_child_ends_once(
    events: list[tuple[float, str, int]], fails: dict[int, Cause], new: bool, fuse_seeds: int
) -> None:
    async def story(search: Search) -> None:
        for pause, what, slot in events:
            await asyncio.sleep(pause)
            for part in what.split(" and "):
                EVENT_KINDS[part](search, slot)
        search.world.nodes_ = replace(search.world.nodes_, draining=frozenset())

    fails = {child: cause for child, cause in fails.items() if cause != Cause.PREEMPTED}
    rules = Rules(heartbeat_timeout_s=20.0, child_timeout_s=200.0, recycle_after=3, checkpoints=True)
    search = Search(children=8, slots=3, rules=rules, results=fails, policy=FailurePolicy(max_attempts=50), new=new)
    search.fuse_seeds = fuse_seeds
    tell(search, story, within_s=3_000.0)
    deaths = sum(what != "pool" for _, what, _ in events)
    for child_id in range(1, 9):
        attempts = search.ledger.attempts(child_id)
        assert [a.verdict for a in attempts].count("outcome") == 1  # type: ignore[comparison-overlap]
        assert all(a.verdict is not None for a in attempts)
        if child_id not in fails:
            assert attempts[-1].cause is None, "an innocent child failed permanently"
        finished = [t for t in search.world.trained if t.child_id == child_id]
        assert len(finished) <= 1 + deaths + (50 if child_id in fails else 0)
    assert search.ledger.completed() == 8
    assert sorted(search.world.forgotten) == sorted(set(search.world.forgotten)) or any(
        w in ("pool", "driver") for _, w, _ in events
    )


def test_workers_that_come_later_are_used_and_known_to_the_next_pool() -> None:
    async def story(search: Search) -> None:
        await asyncio.sleep(START_S + 3)
        search.world.add(1)
        assert await search.pool.grow(2) == WorkerCensus(up={"n0": 1})
        await asyncio.sleep(START_S + 3)
        assert await search.pool.grow(2) == WorkerCensus(
            up={"n0": 1, "n1": 1}
        )  # a second report counts no worker twice
        assert {attempt.slot for attempt in search.ledger.running()} == {0, 1}
        search.start_pool()  # knows of one, and that the other has begun a child
        await asyncio.sleep(30)
        assert await search.pool.grow(2) == WorkerCensus(up={"n0": 1, "n1": 1})

    search = tell(Search(children=8, slots=1), story, within_s=60)
    assert [search.attempts(child) for child in range(1, 9)] == [[("outcome", None)]] * 8
    assert Counter(attempt.slot for child in range(1, 9) for attempt in search.ledger.attempts(child)) == {0: 4, 1: 4}


def test_children_that_are_collected_come_in_the_order_in_which_they_end() -> None:
    seconds = {1: 30.0, 2: 10.0, 3: 20.0, 4: 10.0}
    search = Search(children=4, slots=4, seconds=seconds.__getitem__)
    answers: list[tuple[int, ...]] = []

    async def story(search: Search) -> None:
        left = list(seconds)
        collected = await search.pool.collect([search.assignment(child_id) for child_id in left])
        while True:
            assert not collected.unknown
            answers.append(tuple(child_id for child_id, _ in collected.ended))
            for child_id, outcome in collected.ended:
                search.ledger.finish(child_id, outcome, 0.0)
                left.remove(child_id)
            if not left:
                return
            collected = await search.pool.collect([], left)

    async def whole() -> None:
        await search.begin(ask=False)
        await story(search)

    run_virtually(whole())
    assert answers == [(2, 4), (3,), (1,)]
    assert all(search.attempts(child_id) == [("outcome", None)] for child_id in seconds)


def test_a_pool_that_was_started_again_asks_for_the_children_that_it_does_not_know() -> None:
    """One has ended while nobody heard of it, one is in training, and one waits for a worker."""
    search = Search(children=3, slots=2, seconds=lambda child_id: 10.0 * child_id)

    async def whole() -> None:
        await search.begin(ask=False)
        assignments = [search.assignment(child_id) for child_id in (1, 2, 3)]
        lost = asyncio.create_task(search.pool.collect(assignments))
        await asyncio.sleep(START_S + 5)
        lost.cancel()
        await asyncio.sleep(10)
        search.start_pool(ask=False)
        assert (await search.pool.collect([], [1, 2, 3])).unknown == {1, 2, 3}
        ended: list[int] = []
        while len(ended) < 3:
            left = [one for one in assignments if one.child_id not in ended]
            ended += [child_id for child_id, _ in (await search.pool.collect(left)).ended]
        assert ended == [1, 2, 3]

    run_virtually(whole())
    assert Counter(t.child_id for t in search.world.trained) == {1: 1, 2: 1, 3: 1}
