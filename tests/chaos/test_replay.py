"""Asynchronous searches on a real Ray cluster, replayed: equal weights, whatever was killed while they ran."""

from collections.abc import Iterator

import pytest

from cluster.replay.record import read_record
from cluster.replay.replay import replay
from cluster.storage.run_folder import RunFolder
from tests.chaos.kills import Search, random_kills
from tests.chaos.machines import Machines
from tests.lengths import LONG

pytestmark = pytest.mark.xdist_group("ray")

CHILDREN = 45


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    machines = Machines(nodes=2, cores=4)
    yield machines
    machines.close()


@pytest.mark.timeout(900)
@LONG
@pytest.mark.parametrize("seed", range(20))
def test_a_stream_of_four_replicas_is_replayed_to_equal_weights(machines: Machines, seed: int) -> None:
    search = Search(
        machines, f"replayed-{seed}", CHILDREN, "--batching", "stream", "--replicas", "4", "--seed", str(seed)
    )
    try:
        search.suffer(random_kills(seed, count=3))
        search.finish()
    finally:
        search.end()
    found = replay(read_record(RunFolder(search.folder)))
    print(found)
    assert (found.children, found.shards) == (CHILDREN, 3)
