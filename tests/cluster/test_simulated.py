"""Searches on a virtual clock: the real loop, ledger and shards; only the workers are simulated."""

import asyncio
import functools
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from child_trainer.outcome import Budget, Outcome
from child_trainer.tasks.synthetic import SyntheticTask
from cluster.config import RunConfig
from cluster.evaluator import Assignment, Evaluator
from cluster.ledger import Ledger
from cluster.options import TaskOptions, Topology
from cluster.parts import initial_values, make_layout, make_parameters, make_replica, make_searcher
from cluster.records import Batching
from cluster.replica import replica_loop
from cluster.simulated import Events, SimulatedWorkers, VirtualLoop, last_begun, utilisation
from cluster.training import Trainer
from controller.spaces.convolutional import ConvolutionalSpace
from ps.local import LocalStore
from tests.cluster.searches import TINY
from tests.contracts.evaluator import EvaluatorContract, architecture, assignment

T = TypeVar("T")

CONFIG = RunConfig(
    searcher="random",
    task=TaskOptions(task="synthetic"),
    budget=Budget(epochs=1),
    reward="accuracy",
    convolutional=ConvolutionalSpace(initial_depth=1, max_depth=1),
)


class Instant:
    """Trains nothing at all."""

    def train(self, assignment: Assignment, **_: object) -> Outcome:
        return Outcome(curve=(0.5,), seconds=0.0, parameters=1, flops=1, seed=assignment.seed)


class ByHand:
    """Moves the clock on by itself when there is nothing to be had."""

    def __init__(self, workers: SimulatedWorkers) -> None:
        self._workers, self._inner = workers, workers.evaluator()

    def submit(self, assignment: Assignment) -> None:
        self._inner.submit(assignment)

    def completed(self) -> list[tuple[int, Outcome]]:
        while not (found := self._inner.completed()) and self._workers.advance():
            pass
        return found


class TestSimulatedWorkers(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return ByHand(SimulatedWorkers(2, Trainer(TINY), lambda assignment, _: 10.0 - assignment.child_id))


def simulate(
    batching: Batching,
    seconds: Callable[[Assignment], float],
    *,
    workers: int,
    limit: int,
    config: RunConfig = CONFIG,
    **topology: int | str,
) -> tuple[SimulatedWorkers, Ledger]:
    """A whole search; its ledger is in memory."""
    config = replace(config, max_children=limit, topology=Topology(batching=batching, **topology))  # type: ignore[arg-type]
    simulated = SimulatedWorkers(workers, Instant(), lambda assignment, _: seconds(assignment))
    ledger = Ledger(Path(":memory:"), config.seed, config.max_children, clock=simulated.clock)
    ledger.begin(workers=workers)
    groups = make_parameters(config, make_searcher(config))
    store = LocalStore(make_layout(config, "run", groups)) if groups else None
    if store:
        store.initialize(initial_values(groups))
    loops = []
    for index in range(config.topology.replicas):
        replica = make_replica(config, index, store, simulated.evaluator(), ledger)
        pause = functools.partial(simulated.pause, index)
        loops.append(replica_loop(replace(replica, pause=pause, clock=simulated.clock)))
    simulated.run(loops)
    assert ledger.completed() == limit
    assert not ledger.pending()
    return simulated, ledger


def spread(sigma: float) -> Callable[[Assignment], float]:
    task = SyntheticTask(child_seconds=3600.0, child_spread=sigma)
    return lambda assignment: task.seconds_of(assignment.seed)


def test_what_is_due_first_comes_first_and_of_two_what_was_planned_first() -> None:
    events, done = Events(), list[tuple[str, float]]()

    def note(name: str) -> Callable[[], None]:
        return lambda: done.append((name, events.now))

    for seconds, name in ((5, "c"), (1, "a"), (5, "d"), (3, "b")):
        events.after(seconds, note(name))
    assert events.advance()
    events.after(2, note("b, planned later"))
    while events.advance():
        pass
    assert done == [("a", 1), ("b", 3), ("b, planned later", 3), ("c", 5), ("d", 5)]
    assert not events.advance()


def test_children_are_trained_first_come_first_served() -> None:
    workers = SimulatedWorkers(2, Instant(), lambda child, _: {1: 4.0, 2: 1.0, 3: 1.0, 4: 5.0, 5: 1.0}[child.child_id])
    one, two = workers.evaluator(), workers.evaluator()
    for child_id, evaluator in ((1, one), (2, one), (3, two), (4, one), (5, two)):
        evaluator.submit(assignment(child_id, architecture()))
    assert one.completed() == []
    while workers.advance():
        pass
    assert [(t.child_id, t.replica, t.queued_at, t.began_at, t.ended_at) for t in workers.trainings] == [
        (2, 0, 0, 0, 1),
        (3, 1, 0, 1, 2),
        (1, 0, 0, 0, 4),
        (5, 1, 0, 4, 5),
        (4, 0, 0, 2, 7),
    ]
    assert [child_id for child_id, _ in one.completed()] == [2, 1, 4]
    assert [child_id for child_id, _ in two.completed()] == [3, 5]
    assert utilisation(workers.trainings, 2, 7.0) == 12 / 14
    assert utilisation(workers.trainings, 2, 3.0) == 1.0
    assert last_begun(workers.trainings) == 4.0


def test_a_barrier_waits_for_the_slowest_and_a_stream_for_nobody() -> None:
    """Two workers, two children at a time, child 1 takes 10 s, the others 1 s."""

    def seconds(assignment: Assignment) -> float:
        return 10.0 if assignment.child_id == 1 else 1.0

    barrier, _ = simulate("barrier", seconds, workers=2, limit=8, replicas=1, shards=1, children=2)
    assert [(t.child_id, t.began_at) for t in barrier.trainings] == [
        (2, 0), (1, 0), (3, 10), (4, 10), (5, 11), (6, 11), (7, 12), (8, 12)
    ]  # fmt: skip
    stream, ledger = simulate("stream", seconds, workers=2, limit=8, replicas=1, shards=1, children=2)
    assert [(t.child_id, t.began_at) for t in stream.trainings] == [
        (2, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 5), (8, 6), (1, 0)
    ]  # fmt: skip
    assert utilisation(stream.trainings, 2, last_begun(stream.trainings)) == 1.0
    assert [child.id for child in ledger.history()] == [2, 3, 4, 5, 6, 7, 8, 1]
    assert ledger.last_batch(0) == 4
    assert ledger.open_batch(0) is None


def naive_barrier(sigma: float, draws: int) -> float:
    """The share of the time that a worker of a replica of eight is busy: its child against the slowest of the eight."""
    rng = random.Random(1)
    batches = [[rng.lognormvariate(0, sigma) for _ in range(8)] for _ in range(draws)]
    return statistics.mean(map(statistics.mean, batches)) / statistics.mean(map(max, batches))


@pytest.mark.parametrize(("sigma", "published"), [(0.25, 0.72), (0.5, 0.54), (0.8, 0.40)])
def test_utilisation_of_a_barrier_is_the_naive_simulations_and_of_a_stream_nearly_all(
    sigma: float, published: float
) -> None:
    shape = {"replicas": 10, "shards": 1, "children": 8, "workers": 80}
    share = {}
    for batching in ("barrier", "stream"):
        workers, _ = simulate(batching, spread(sigma), limit=2400, **shape)  # type: ignore[arg-type]
        share[batching] = utilisation(workers.trainings, 80, last_begun(workers.trainings))
    naive = naive_barrier(sigma, 20_000)
    assert naive == pytest.approx(published, abs=0.02)  # published with the start, when all begin at once
    assert share["barrier"] == pytest.approx(naive, abs=0.03)
    assert share["stream"] > 0.999


def test_few_workers_are_shared_fairly() -> None:
    """Four workers for three replicas of four children each."""
    even, _ = simulate("stream", spread(0.5), workers=4, limit=300, replicas=3, shards=1, children=4)
    until = last_begun(even.trainings)
    begun = Counter(t.replica for t in even.trainings if t.began_at < until)
    assert max(begun.values()) - min(begun.values()) <= 8
    assert utilisation(even.trainings, 4, until) > 0.999
    # A child waits for those that came before it: at most all others that are out.
    order = [t.child_id for t in sorted(even.trainings, key=lambda t: (t.began_at, t.queued_at))]
    assert all(abs(place - child) <= 12 for place, child in enumerate(order, start=1))


@pytest.mark.parametrize("options", [{}, {"consistency": "ssp", "staleness_bound": 1}, {"accumulate": 3}], ids=str)
def test_one_seed_gives_one_search_and_its_gradients_are_all_pushed(options: dict[str, int | str]) -> None:
    config = replace(CONFIG, searcher="reinforce")
    found = []
    for _ in range(2):
        workers, ledger = simulate(
            "stream", spread(0.8), config=config, workers=12, limit=100, replicas=3, shards=2, children=4, **options
        )
        batches = [ledger.last_batch(replica) for replica in range(3)]
        assert all(ledger.open_batch(replica, number) is None for replica, number in enumerate(batches))
        found.append((workers.trainings, [(c.id, c.proposal.tokens) for c in ledger.history()], batches))
    assert found[0] == found[1]


def test_replicas_that_must_wait_for_one_another_do_so_in_virtual_time() -> None:
    config = replace(CONFIG, searcher="reinforce")
    sync, ledger = simulate(
        "barrier", spread(0.5), config=config, workers=8, limit=80, replicas=4, shards=1, children=2, consistency="sync"
    )
    assert [ledger.last_batch(replica) for replica in range(4)] == [10, 10, 10, 10]
    ends = [max(t.ended_at for t in sync.trainings if t.replica == replica) for replica in range(4)]
    assert min(ends) > 9 * 3600


def test_loops_that_can_never_go_on_are_named() -> None:
    workers = SimulatedWorkers(1, Instant(), lambda *_: 1.0)
    evaluator = workers.evaluator()

    def loop():  # type: ignore[no-untyped-def]
        for _ in itertools.count():
            evaluator.completed()
            yield

    with pytest.raises(RuntimeError, match=r"the replicas \[0\] wait, and nothing is in training"):
        workers.run([loop()])


def carried_out(work: Coroutine[Any, Any, T]) -> T:
    with closing(VirtualLoop(Events())) as loop:
        return loop.carry_out(work)


def test_what_sleeps_is_woken_in_virtual_time_and_in_order() -> None:
    async def work() -> list[tuple[str, float]]:
        loop, woken = asyncio.get_running_loop(), list[tuple[str, float]]()

        async def sleep(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, loop.time()))

        await asyncio.gather(sleep("c", 7200.0), sleep("a", 1.0), sleep("b", 1.0), sleep("at once", 0.0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 10.0)
        woken.append(("after a timeout", loop.time()))
        return woken

    begun = time.monotonic()
    assert carried_out(work()) == [("at once", 0), ("a", 1), ("b", 1), ("c", 7200), ("after a timeout", 7210)]
    assert time.monotonic() - begun < 60


def test_what_is_left_of_the_work_is_cancelled_at_its_end() -> None:
    ended = list[str]()

    async def forever() -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
        finally:
            ended.append("cancelled")

    async def work() -> str:
        left = asyncio.create_task(forever())
        await asyncio.sleep(10.0)
        return "done" if not left.done() else "ended too early"

    assert carried_out(work()) == "done"
    assert ended == ["cancelled"]


def test_work_that_fails_or_waits_for_what_never_comes_says_so() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("this is wrong")

    with pytest.raises(RuntimeError, match="waits, and nothing is due any more"):
        carried_out(wait())
    with pytest.raises(ValueError, match="this is wrong"):
        carried_out(fail())
