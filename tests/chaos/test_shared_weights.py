"""ENAS and DARTS on a real Ray cluster, whose workers and shards of both kinds are killed again and again.

The short tests are in `tests/cluster/runners/on_ray/`, of searches with one lane, which end with the weights of an
undisturbed one. Here are many lanes, whose steps are counted, and deaths of whole runs. Figures: docs/design/faults.md.
"""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.chaos.kills import Kill, Kind, Search, Stage
from tests.chaos.machines import Machines
from tests.chaos.shared_steps import check_steps
from tests.cluster.runners.on_ray.dying_steps import POINTS, met, write_reward
from tests.cluster.searches import finish, nascluster, run_folder
from tests.lengths import LONG
from tests.waiting import until

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(3600),
    LONG,
]

KILLS, STEPS = 16, 30
"""Kills of a search, and steps that each of its children makes."""

INTERVAL_S = 2.0
SLACK_S = 3.0
"""The interval of the weights' snapshots, and what a busy machine may take longer to write one."""

SPACE = "--space nasbench201 --cells-per-stage 1 --stem-channels 4 --batch-size 16 --refit-batches 1 --reward accuracy"
SIZES = "--workers 4 --weights-shards 3 --max-attempts 10"
SEARCHES = {
    "enas": (
        f"{SPACE} {SIZES} --searcher enas --search-epochs 14 --steps-per-epoch {8 * STEPS} --steps-per-child {STEPS}"
        " --policy-children 4 --controller-units 8 --shards 3 --replicas 2 --children 4",
        14 * (8 + 4) + 4,
    ),
    "darts": (
        f"{SPACE} {SIZES} --searcher darts --search-epochs 18 --steps-per-epoch {8 * STEPS} --steps-per-child {STEPS}"
        " --shards 3 --replicas 1 --children 4",
        18 * (8 + 1),
    ),
}
"""The flags of each, and its children."""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    machines = Machines(nodes=2, cores=4)
    yield machines
    machines.close()


def kills(seed: int) -> list[Kill]:
    """Workers and hosts of shards of both kinds, each as often, at moments that the seed settles; and the driver."""
    draw = random.Random(seed)
    kinds = [Kind.WORKER, Kind.SHARD_HOST] * (KILLS // 2 - 1) + [Kind.DRIVER, Kind.REPLICA_HOST]
    draw.shuffle(kinds)
    return [
        Kill(kind=kind, at=Stage.RUNNING, pause_s=draw.uniform(0.0, 1.0), which=draw.randrange(8)) for kind in kinds
    ]


@pytest.mark.parametrize("interval", ["0", f"{INTERVAL_S:.0f}s"])
@pytest.mark.parametrize("searcher", SEARCHES)
def test_steps_of_many_lanes_are_made_once_and_lost_only_within_the_bound(
    machines: Machines, searcher: str, interval: str
) -> None:
    flags, children = SEARCHES[searcher]
    name, chosen = f"{searcher}-{interval}", kills(seed=len(searcher))
    begun = time.monotonic()
    search = Search(machines, name, children, *flags.split(), "--weights-snapshot", interval, recipe="digits")
    try:
        search.suffer(chosen)
        search.finish()
    finally:
        search.end()
    report = check_steps(search.folder, children)
    seconds, kinds = time.monotonic() - begun, Counter(kill.kind.name for kill in chosen)
    bound = kinds[Kind.SHARD_HOST.name] * most_steps(search.folder, INTERVAL_S + SLACK_S) if interval != "0" else 0
    print(f"{name}: {dict(kinds)} killed in {seconds:.0f} s: {report}, bound {bound}")
    assert (report.duplicated, report.policy_lost) == (0, 0)
    assert max(report.lost) <= bound


def most_steps(folder: Path, seconds: float) -> int:
    """Return at most how many steps the workers made in so many seconds: those of all attempts that touch them."""
    query = "SELECT a.started_at, a.ended_at FROM attempts AS a JOIN children ON id = child WHERE lane IS NOT NULL"
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        attempts = db.execute(query).fetchall()
    return max(STEPS * sum(begun < end and ended > end - seconds for begun, ended in attempts) for _, end in attempts)


DARTS = (
    f"{SPACE} --searcher darts --search-epochs 3 --steps-per-epoch 20 --steps-per-child 10 --weights-snapshot 0"
    " --replicas 1 --children 1 --shards 1"
)
"""Six children with ten steps each, of one lane, and three scores."""


def test_a_run_that_dies_at_five_points_of_a_step_and_is_resumed_ends_as_an_undisturbed_one(
    machines: Machines, tmp_path: Path
) -> None:
    children = 9
    reward = ["--reward", write_reward(tmp_path)]
    search = Search(machines, "points", children, *DARTS.split(), "--workers", "1", *reward, recipe="digits")
    try:
        for point in POINTS:
            until((tmp_path / point).exists, f"a worker that dies {point}")
            search.suffer([Kill(kind=Kind.DRIVER, after=0)])
        search.finish()
    finally:
        search.end()
    assert met(tmp_path) == list(POINTS)
    flags = ["--max-children", str(children), *DARTS.split()]
    finish(nascluster("launch", "digits", "--name", "undisturbed", "--local", *flags))
    for store in ("shards", "weights"):
        ours, theirs = (
            load_file(run_folder(name) / store / "shard-000.safetensors") for name in ("points", "undisturbed")
        )
        assert ours.keys() == theirs.keys()
        assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
