"""The schedule of whole searches in which only children take time."""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from child_trainer.outcome import Budget, Outcome
from child_trainer.tasks.synthetic import SyntheticTask
from cluster.compare.one_search import MemoryLedger
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.search.evaluator import Assignment
from cluster.search.records import Batch, Batching, Stream
from cluster.search.seeding import child_seed
from cluster.simulation.clock import VirtualLoop
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.fake_searcher import fake_outcome
from cluster.simulation.simulator import SimulationResult, simulate_search, simulate_search_on
from controller.searcher import Proposal
from controller.spaces.convolutional import ConvolutionalSpace

CONFIG = RunConfig(
    searcher="random",
    task=TaskOptions(task="synthetic"),
    budget=Budget(epochs=1),
    reward="accuracy",
    space_options=ConvolutionalSpace(initial_depth=1, max_depth=1),
)


@dataclass(frozen=True)
class Timed:
    """A trainer without training, of given durations."""

    seconds: Callable[[Assignment], float]

    def train(self, assignment: Assignment, **_: object) -> Outcome:
        return fake_outcome(assignment.seed, self.seconds(assignment))


class Noting(MemoryLedger):
    """A ledger that also records each child's replica and the order of starts."""

    replicas: dict[int, int]
    started: list[int]

    def __init__(self, config: RunConfig, clock: Callable[[], float]) -> None:
        super().__init__(config, clock)
        self.replicas, self.started = {}, []

    def admit(
        self,
        replica: int,
        number: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...],
        after: int | None = None,
        origin: str = "",
    ) -> Batch | None:
        batch = super().admit(replica, number, proposals, versions, after, origin)
        self.replicas |= {child.id: replica for child in (batch.children if batch else ())}
        return batch

    def add_children(
        self,
        replica: int,
        number: int,
        unbatched: int,
        proposals: Sequence[Proposal],
        versions: tuple[int, ...],
        after: int | None = None,
        origin: str = "",
    ) -> Stream:
        stream = super().add_children(replica, number, unbatched, proposals, versions, after, origin)
        self.replicas |= {child.id: replica for child in stream.outstanding}
        return stream

    def start(self, child_id: int, worker: str, key: str | None = None, **options: Any) -> None:
        self.started.append(child_id)
        super().start(child_id, worker, key, **options)


def simulate(
    batching: Batching,
    seconds: Callable[[Assignment], float],
    *,
    workers: int,
    limit: int,
    config: RunConfig = CONFIG,
    **topology: Any,
) -> tuple[SimulationResult, Noting]:
    """Simulate a whole search; return its result and its ledger."""
    config = replace(config, max_children=limit, topology=Topology(batching=batching, workers=workers, **topology))
    with closing(VirtualLoop()) as loop:
        ledger = Noting(config, loop.time)
        model = ClusterModel(child_seconds=None, push_s=0.0)
        result = simulate_search_on(loop, ledger, config, model, Timed(seconds))
    assert ledger.completed() == result.children == len(result.worker_log.intervals) == limit
    assert not ledger.pending()
    return result, ledger


def spread(sigma: float) -> Callable[[Assignment], float]:
    task = SyntheticTask(child_seconds=3600.0, child_spread=sigma)
    return lambda assignment: task.seconds_of(assignment.seed)


def test_a_barrier_waits_for_the_slowest_child_and_a_stream_does_not() -> None:
    """Two workers, two children at a time, child 1 takes 10 s, the others 1 s."""

    def seconds(assignment: Assignment) -> float:
        return 10.0 if assignment.child_id == 1 else 1.0

    barrier, _ = simulate("barrier", seconds, workers=2, limit=8, replicas=1, shards=1, children=2)
    assert [(s.child_id, s.started_at) for s in barrier.worker_log.intervals] == [
        (2, 0), (1, 0), (3, 10), (4, 10), (5, 11), (6, 11), (7, 12), (8, 12)
    ]  # fmt: skip
    stream, ledger = simulate("stream", seconds, workers=2, limit=8, replicas=1, shards=1, children=2)
    worker_log = stream.worker_log
    assert [(s.child_id, s.started_at) for s in worker_log.intervals] == [
        (2, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 5), (8, 6), (1, 0)
    ]  # fmt: skip
    assert worker_log.busy_s(worker_log.last_child_started_at) == 2 * worker_log.last_child_started_at == 2 * 6.0
    assert [child.id for child in ledger.history()] == [2, 3, 4, 5, 6, 7, 8, 1]
    assert ledger.last_batch(0) == 4
    assert ledger.open_batch(0) is None


def by_hand(config: RunConfig, seconds: Callable[[int], float]) -> dict[int, float]:
    """Return when each child ends if workers take the child that has waited longest and all else is instant."""
    topology, fresh = config.topology, iter(range(1, config.max_children + 1))
    waiting, out, free = deque[tuple[int, int]](), Counter[int](), topology.workers or 0
    now, due, ends = 0.0, list[tuple[float, int, int]](), dict[int, float]()

    def ask(replica: int, count: int) -> None:
        for _, child in zip(range(count), fresh, strict=False):
            waiting.append((child, replica))
            out[replica] += 1

    for replica in range(topology.replicas):
        ask(replica, topology.children)
    while waiting or due:
        while waiting and free:
            child, replica = waiting.popleft()
            heapq.heappush(due, (now + seconds(child), child, replica))
            free -= 1
        now, child, replica = heapq.heappop(due)
        ends[child] = now
        out[replica] -= 1
        free += 1
        if topology.batching == "stream":
            ask(replica, 1)
        elif not out[replica]:
            ask(replica, topology.children)
    return ends


@pytest.mark.parametrize("workers", [20, 32])
@pytest.mark.parametrize("batching", ["barrier", "stream"])
def test_without_losses_children_end_as_computed_by_hand(batching: Batching, workers: int) -> None:
    topology = Topology(replicas=4, shards=1, children=8, workers=workers, batching=batching)
    config = replace(CONFIG, max_children=200, topology=topology)
    times = ChildSeconds("lognormal", 3600.0, 0.5)
    result = simulate_search(config, ClusterModel(child_seconds=times, push_s=0.0))
    expected = by_hand(config, lambda child: times.draw(random.Random(child_seed(config.seed, child))))
    assert len(result.worker_log.intervals) == 200
    assert {s.child_id: s.ended_at for s in result.worker_log.intervals} == pytest.approx(expected)


def test_few_workers_are_shared_fairly() -> None:
    """Four workers for three replicas of four children each."""
    even, ledger = simulate("stream", spread(0.5), workers=4, limit=300, replicas=3, shards=1, children=4)
    until = even.worker_log.last_child_started_at
    started = Counter(ledger.replicas[s.child_id] for s in even.worker_log.intervals if s.started_at < until)
    assert sorted(started) == [0, 1, 2]
    assert max(started.values()) - min(started.values()) <= 8
    assert even.worker_log.busy_s(until) / (4 * until) > 0.999
    # A child waits for those that came before it: at most all others that are out.
    assert len(ledger.started) == 300
    assert all(abs(place - child) <= 12 for place, child in enumerate(ledger.started, start=1))


@pytest.mark.parametrize("options", [{}, {"consistency": "ssp", "staleness_bound": 1}, {"accumulate": 3}], ids=str)
def test_one_seed_gives_one_search_and_its_gradients_are_all_pushed(options: dict[str, Any]) -> None:
    config = CONFIG.with_searcher("reinforce")
    found = []
    for _ in range(2):
        result, ledger = simulate(
            "stream", spread(0.8), config=config, workers=12, limit=100, replicas=3, shards=2, children=4, **options
        )
        batches = [ledger.last_batch(replica) for replica in range(3)]
        assert all(ledger.open_batch(replica, number) is None for replica, number in enumerate(batches))
        assert len(result.replicas.staleness) == sum(batches)
        found.append((result, [(c.id, c.tokens) for c in ledger.history()], batches))
    assert found[0] == found[1]


def test_replicas_wait_for_each_other_in_virtual_time() -> None:
    config = CONFIG.with_searcher("reinforce")
    sync, ledger = simulate(
        "barrier", spread(0.5), config=config, workers=8, limit=80, replicas=4, shards=1, children=2, consistency="sync"
    )
    assert [ledger.last_batch(replica) for replica in range(4)] == [10, 10, 10, 10]
    ends = [max(s.ended_at for s in sync.worker_log.intervals if ledger.replicas[s.child_id] == r) for r in range(4)]
    assert min(ends) > 9 * 3600
