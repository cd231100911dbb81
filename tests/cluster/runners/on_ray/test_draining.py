"""A cluster of two nodes of which one drains and leaves: its children finish on the other."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Budget, Cause
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.task_options import TaskOptions
from cluster.runners.on_ray.handles import PoolEvaluator
from cluster.search.records import Verdict
from tests.chaos.machines import Machines
from tests.cluster.searches import SLOW, Rig, end
from tests.contracts.evaluator import assignment, gather

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

CONFIG = replace(
    SLOW,
    task=TaskOptions(task="synthetic", options=SyntheticOptions(child_seconds=4.0)),
    budget=Budget(epochs=10),
    failures=FailureOptions(checkpoint_children=True),
)


@pytest.fixture
def machines() -> Iterator[Machines]:
    """Two nodes with one core each, so that one worker is on each: the head, and the fixture `second`."""
    machines = Machines(nodes=0, cores=1)
    yield machines
    machines.close()


@pytest.fixture
def second(machines: Machines) -> Iterator[str]:
    """Add the second node, join the cluster with this process, and yield the node's name."""
    name = machines.add_node()
    with machines.joined():
        yield name


def test_a_preemption_notice_gives_children_back_before_the_node_ends(
    machines: Machines, second: str, tmp_path: Path
) -> None:
    rig = Rig(tmp_path, CONFIG, workers=2)
    evaluator = PoolEvaluator(rig.pool)
    for child in (1, 2):
        evaluator.submit(assignment(child))
    for child in (1, 2):
        rig.in_training(child, 1)
    given_at = time.time()
    machines.drain_node(second)
    moved = rig.until(lambda: [row for row in rig.attempts() if row[2] == "retry"], "a child is given back")
    assert time.time() - given_at < 10
    ((child, *_),) = moved
    evaluator.submit(assignment(3))
    assert all(outcome.failure is None for _, outcome in gather(evaluator, 3))
    rig.ended_attempts()
    preempted, resumed = rig.history(child)
    assert (preempted.verdict, preempted.cause) == (Verdict.RETRY, Cause.PREEMPTED)
    assert (resumed.verdict, resumed.cause) == (Verdict.OUTCOME, None)
    assert resumed.outcome is not None
    assert len(resumed.outcome.curve) == 10
    others = {rig.history(other)[-1].slot for other in (1, 2, 3)}
    assert others == {resumed.slot} != {preempted.slot}  # the draining node got no other child
    machines.kill_node(second)
    evaluator.submit(assignment(4))
    assert dict(gather(evaluator, 1))[4].failure is None
    assert {attempt.cause for attempt in rig.history(4)} <= {None, Cause.PREEMPTED}
    end(rig.actors)
