"""Searches on a real Ray cluster that are killed again and again, each process and each node; nothing is lost by it.

Afterwards each is replayed, to weights that are equal to the bit.

Which tests kill at each step in the life of a child and of a push (here: the stages of `tests/chaos/kills.py`; replica,
pool, distributed: `tests/cluster/test_*.py`; pushes, disks: `tests/chaos/test_*.py`):

| step | tests |
|---|---|
| a child is sampled, and not recorded | replica: before and after every call of the loop |
| it is recorded, and nobody has it | replica; pool; here SAMPLED |
| it is in training | pool; distributed; here RUNNING; within it `tests/child_trainer/training/test_resume.py` |
| it is trained, and its worker has not been heard | pool: at moments all through a search; here TRAINED |
| its outcome is on record, and its replica does not know | pool; here OUTCOME |
| it has ended, and its batch is not learnt from | replica |
| its batch's push is on the way | pushes: lost, repeated, late, cut short, killed at every point |
| the push is on some shards only | pushes; here Push, as the machine will have it |
| the push is on all shards, and nobody has recorded it | replica; here PUSHED |
| a write of a shard or of the ledger fails | disks |

`NASCLUSTER_CHAOS` above 1 has 50 kills instead of 8, and every kind of kill at every step.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from cluster.replay.record import read_record
from cluster.replay.replay import replay
from cluster.storage.run_folder import RunFolder
from tests.chaos.invariants import check
from tests.chaos.kills import BY_RAY, Kill, Kind, Push, Search, Stage, random_kills
from tests.chaos.machines import Machines
from tests.lengths import FACTOR, LONG

pytestmark = pytest.mark.xdist_group("ray")

CHILDREN_EACH = 9
"""Children to a kill: those that end between two, and as many as may end while a process is waited for."""

SLICE = [
    Kill(kind=Kind.SHARD_HOST, at=Push(replica=1, number=2, shard=1), after=0),
    Kill(kind=Kind.REPLICA_HOST, at=Stage.PUSHED),
    Kill(kind=Kind.POOL, at=Stage.TRAINED),
    Kill(kind=Kind.WORKER, at=Stage.RUNNING),
    Kill(kind=Kind.LEDGER, at=Stage.OUTCOME),
    Kill(kind=Kind.NODE, at=Stage.RUNNING),
    Kill(kind=Kind.DRIVER, at=Stage.SAMPLED),
    Kill(kind=Kind.WORKER, at=Stage.ANY, by_ray=True),
]
"""Every kind once, and every stage."""

EVERYTHING = [
    Kill(kind=Kind.SHARD_HOST, at=Push(replica=2, number=7, shard=1), after=0),
    *(Kill(kind=kind, at=stage) for stage, kind in itertools.product(Stage, Kind)),
    *(Kill(kind=kind, at=stage, by_ray=True) for stage, kind in itertools.product(Stage, BY_RAY)),
]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    machines = Machines(nodes=2, cores=4)
    yield machines
    machines.close()


def survive(machines: Machines, name: str, kills: Sequence[Kill]) -> None:
    begun = time.monotonic()
    search = Search(machines, name, CHILDREN_EACH * (len(kills) + 2))
    try:
        search.suffer(kills)
        search.finish()
    finally:
        search.end()
    report = check(search.folder)
    assert replay(read_record(RunFolder(search.folder))).children == report.children
    kinds = ", ".join(f"{count} x {kind.name}" for kind, count in Counter(kill.kind for kill in kills).items())
    print(f"{len(kills)} kills ({kinds}) in {time.monotonic() - begun:.0f} s: {report}")
    assert report.children == CHILDREN_EACH * (len(kills) + 2)
    assert (report.lost, report.duplicated, report.repeated) == (0, 0, 0)


@pytest.mark.timeout(900)
@pytest.mark.skipif(FACTOR > 1, reason="the same and more is in the long tests")
def test_a_search_whose_parts_are_killed_one_after_another(machines: Machines) -> None:
    survive(machines, "parts", SLICE)


@pytest.mark.timeout(3600)
@LONG
def test_a_search_that_is_killed_fifty_times_at_random(machines: Machines) -> None:
    survive(machines, "random", random_kills(seed=0, count=50))


@pytest.mark.timeout(3600)
@LONG
def test_every_kind_of_kill_at_every_step(machines: Machines) -> None:
    survive(machines, "steps", EVERYTHING)
