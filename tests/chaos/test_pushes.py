"""Whatever is lost, repeated or killed, every push is applied exactly once: the sum shows it to the last bit."""

import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch

from ps.rpc.client import GrpcStore
from ps.store import Layout
from tests.chaos.processes import Point, ShardProcess, run_client
from tests.chaos.script import (
    PATIENCE_S,
    Fail,
    How,
    Injector,
    assert_each_applied_once,
    connect,
    pushes_of,
)
from tests.contracts.parameter_store import sgd_layout
from tests.lengths import FACTOR

Start = Callable[..., ShardProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(layout: Layout, indices: list[int]) -> ShardProcess:
            process = ShardProcess(layout, indices, tmp_path)
            process.start()
            stack.callback(process.kill)
            return process

        yield start


class Rig:
    """Three shards in two processes, 0 and 2 in the first, and a script between them and their clients."""

    def __init__(self, start: Start, script: list[Fail]) -> None:
        self.layout = sgd_layout(elements=30, shards=3)
        even, odd = start(self.layout, [0, 2]), start(self.layout, [1])
        self.processes = [even, odd, even]
        self.addresses = [process.address for process in self.processes]
        self.injector = Injector(script, kill=lambda shard: self.processes[shard].kill_and_restart())

    def run(self, clients: dict[str, int]) -> None:
        """Each client pushes from 1 up to its number, all at the same time; then every failure must have happened."""
        with self.plainly() as store:
            store.initialize({"x": torch.zeros(30)})
        with ThreadPoolExecutor(len(clients)) as threads:
            running = [threads.submit(self._push, client, last) for client, last in clients.items()]
        for client in running:
            client.result()
        assert self.injector.finished(), self.injector.struck
        with self.plainly() as store:
            assert_each_applied_once(store, self.layout, clients)

    def _push(self, client: str, last: int) -> None:
        store = connect(self.layout, self.addresses, self.injector)
        for push in pushes_of(self.layout, client, range(1, last + 1)):
            store.push(push)
        store.close()

    @contextmanager
    def plainly(self) -> Iterator[GrpcStore]:
        """Return a store without the script."""
        store = GrpcStore(self.layout, self.addresses)
        yield store
        store.close()


IN_EACH_PROCESS = (2, 1)
"""A shard of each of the rig's processes. A call is duplicated at most once, so a script names one shard of a call."""

ON_THE_WAY = [how for how in How if how != How.KILLED_CLIENT]


@pytest.mark.parametrize("how", ON_THE_WAY, ids=lambda how: how.name)
@pytest.mark.parametrize("shard", [0, 1, 2])
def test_one_failure_on_one_shard(start: Start, how: How, shard: int) -> None:
    rig = Rig(start, [Fail(client="replica-1", push=2, shard=shard, how=how)])
    rig.run({"replica-0": 4, "replica-1": 4})


@pytest.mark.parametrize(
    "hows",
    [
        (How.LOST_REQUEST, How.LOST_REPLY, How.DUPLICATED),
        (How.LOST_REPLY, How.KILLED_BEFORE),
        (How.KILLED_DURING, How.KILLED_DURING, How.LOST_REPLY),
        (How.KILLED_AFTER, How.LATE, How.LOST_REPLY),
    ],
)
def test_one_push_meets_several_failures_in_every_process(start: Start, hows: tuple[How, ...]) -> None:
    script = [Fail(client="replica-1", push=2, shard=shard, how=how) for shard in IN_EACH_PROCESS for how in hows]
    Rig(start, script).run({"replica-0": 3, "replica-1": 3})


def test_a_push_is_on_some_shards_only_when_a_process_is_killed_between_two(start: Start) -> None:
    """What the others see meanwhile: shards 0 and 2, in one process, have the push, and shard 1 is dead."""
    seen: list[list[int]] = []
    rig = Rig(start, [Fail(client="replica-0", push=2, shard=1, how=How.KILLED_BEFORE)])

    def kill(shard: int) -> None:
        rig.processes[shard].kill_and_restart()
        with rig.plainly() as store:
            seen.append([status.pushes for status in store.status()])

    rig.injector._kill = kill
    rig.run({"replica-0": 3})
    assert seen == [[2, 1, 2]]


@pytest.mark.timeout(120 * FACTOR)
@pytest.mark.parametrize("seed", range(FACTOR))
def test_a_long_run_in_which_everything_fails_at_random(start: Start, seed: int) -> None:
    """`NASCLUSTER_CHAOS=10` runs ten of them."""
    draw = random.Random(seed)
    clients = {f"replica-{number}": 40 for number in range(4)}
    kills = [How.KILLED_BEFORE, How.KILLED_DURING, How.KILLED_AFTER]
    gentle = [how for how in ON_THE_WAY if how not in kills]

    def fails(hows: list[How], count: int) -> list[Fail]:
        return [
            Fail(
                client=draw.choice(list(clients)), push=draw.randint(1, 39), shard=draw.choice(IN_EACH_PROCESS), how=how
            )
            for how in draw.choices(hows, k=count)
        ]

    script = list(dict.fromkeys(fails(gentle, 120) + fails(kills, 12)))  # a script names no failure twice
    Rig(start, script).run(clients)


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.name)
def test_a_shard_that_dies_at_an_exact_point_of_a_push(start: Start, point: Point, tmp_path: Path) -> None:
    layout = sgd_layout(shards=1)
    shard = start(layout, [0])
    store = GrpcStore(layout, [shard.address])
    store.initialize({"x": torch.zeros(10)})
    shard.kill()
    shard.start(point, push=3)
    pushes = list(pushes_of(layout, "replica-0", range(1, 5)))
    for push in pushes[:2]:
        assert not store.push(push).duplicate
    with ThreadPoolExecutor(1) as threads:
        third = threads.submit(store.push, pushes[2])
        assert shard.wait() == -signal.SIGKILL
        left_behind = sorted(path.name for path in tmp_path.iterdir())
        shard.start()
        ack = third.result(PATIENCE_S)
    assert left_behind == LEFT_BEHIND[point]
    # Only what had reached its place on the disk may be known to the new process.
    assert ack.duplicate == (point in (Point.AFTER_RENAMES, Point.BEFORE_ACK, Point.BEFORE_REPLY))
    assert ack.versions == (3,)
    assert not store.push(pushes[3]).duplicate
    assert_each_applied_once(store, layout, {"replica-0": 4})
    store.close()


NEWEST, PREVIOUS, TEMPORARY = "shard-000.safetensors", "shard-000.previous.safetensors", "shard-000.tmp"
WHOLE = [PREVIOUS, NEWEST]
LEFT_BEHIND = dict.fromkeys(Point, WHOLE) | {
    Point.HALF_WRITTEN: [*WHOLE, TEMPORARY],
    Point.BEFORE_RENAMES: [*WHOLE, TEMPORARY],
    Point.BETWEEN_RENAMES: [PREVIOUS, TEMPORARY],
}


@pytest.mark.parametrize("point", list(Point), ids=lambda point: point.name)
def test_a_shard_that_dies_at_an_exact_point_under_many_clients(start: Start, point: Point) -> None:
    """Pushes that wait together share a write, and so a death. The files follow the journal after the first second."""
    layout = sgd_layout(elements=30, shards=2)
    shard = start(layout, [0, 1])
    store = GrpcStore(layout, [shard.address] * 2)
    store.initialize({"x": torch.zeros(30)})
    shard.kill()
    is_of_file = point in (Point.BEFORE_RENAMES, Point.BETWEEN_RENAMES, Point.AFTER_RENAMES)
    shard.start(point, push=1 if is_of_file else 5)
    clients = {f"replica-{number}": 5 for number in range(6)}

    def push_all(client: str, last: int) -> None:
        for push in pushes_of(layout, client, range(1, last + 1)):
            store.push(push)

    with ThreadPoolExecutor(len(clients)) as threads:
        running = [threads.submit(push_all, *client) for client in clients.items()]
        assert shard.wait() == -signal.SIGKILL
        shard.start()
    for client in running:
        client.result()
    assert_each_applied_once(store, layout, clients)
    store.close()


@pytest.mark.parametrize("shard", [0, 1])
def test_a_client_that_is_killed_before_it_knows_of_its_ack(start: Start, shard: int, tmp_path: Path) -> None:
    """Its successor has the same name and begins with the push that was under way, as a replica does."""
    rig = Rig(start, [])
    progress = tmp_path / "progress"
    script = [Fail(client="replica-0", push=3, shard=shard, how=How.KILLED_CLIENT)]

    def client(script: list[Fail]) -> int | None:
        return run_client(rig.layout, rig.addresses, "replica-0", 5, progress, script)

    with rig.plainly() as store:
        store.initialize({"x": torch.zeros(30)})
        assert client(script) == -signal.SIGKILL
        assert progress.read_text() == "2"
        assert [status.pushes for status in store.status()] == ([3, 2, 3] if shard == 0 else [3, 3, 3])
        assert client([]) == 0
        assert_each_applied_once(store, rig.layout, {"replica-0": 5})
        assert sum(status.duplicates for status in store.status()) == shard + 2


def test_a_failure_that_does_not_happen_is_noticed() -> None:
    injector = Injector([Fail(client="replica-0", push=9, shard=0, how=How.LOST_REPLY)])
    assert not injector.finished()
