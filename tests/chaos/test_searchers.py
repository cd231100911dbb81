"""Each searcher of the catalogue on a real Ray cluster, whose driver is killed in the middle of the search.

Those whose children share weights are in `tests/cluster/runners/on_ray/test_shared_weights.py`: the search here is
synthetic.
"""

from collections.abc import Iterator

import pytest

from tests.chaos.invariants import check
from tests.chaos.kills import Kill, Kind, Search, Stage
from tests.chaos.machines import Machines
from tests.lengths import FACTOR
from tests.searcher_cases import FLAGS, SHARING, given_flags

pytestmark = pytest.mark.xdist_group("ray")

CHILDREN = 16

KILLS = [
    Kill(kind=Kind.REPLICA_HOST, at=Stage.SAMPLED),
    Kill(kind=Kind.LEDGER, at=Stage.OUTCOME),
    Kill(kind=Kind.DRIVER, at=Stage.RUNNING),
]
"""One for each searcher in turn: what it decides and learns follows from the ledger and the shards alone."""

SHORT = ("ppo", "evolution", "bayesian")
"""The searchers of a short run, one for each kind of kill. `NASCLUSTER_CHAOS=10` kills a search of each searcher.

In one process all of them die, in `tests/cluster/search/test_every_searcher.py`.
"""

SEARCHERS = [searcher for searcher in FLAGS if searcher not in SHARING and (FACTOR > 1 or searcher in SHORT)]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    # A node more is two processes more for each search, which other tests kill.
    machines = Machines(nodes=1 if FACTOR == 1 else 2, cores=4)
    yield machines
    machines.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("searcher", SEARCHERS)
def test_a_search_that_is_killed_in_the_middle_loses_nothing(machines: Machines, searcher: str) -> None:
    kill = KILLS[list(FLAGS).index(searcher) % len(KILLS)]
    flags = given_flags(CHILDREN) if searcher == "given" else FLAGS[searcher]
    search = Search(machines, searcher, CHILDREN, "--searcher", searcher, *flags.split())
    try:
        search.suffer([kill])
        search.finish()
    finally:
        search.end()
    report = check(search.folder, any_searcher=True)
    assert (report.children, report.lost, report.duplicated, report.repeated) == (CHILDREN, 0, 0, 0)
