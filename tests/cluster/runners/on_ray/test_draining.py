"""A cluster of two nodes of which one drains and leaves: its children finish on the other."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

from child_trainer.outcome import Budget, Cause
from cluster.config.failure_options import FailureOptions
from cluster.config.task_options import TaskOptions
from cluster.runners.on_ray.handles import PoolEvaluator
from cluster.search.records import Verdict
from tests.cluster.searches import SLOW, Rig, end
from tests.contracts.evaluator import assignment, gather

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

CONFIG = replace(
    SLOW,
    task=TaskOptions(task="synthetic", child_seconds=4.0),
    budget=Budget(epochs=10),
    failures=FailureOptions(checkpoint_children=True),
)


class TwoNodes:
    """One core each, so that one worker is on each."""

    def __init__(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._going: Any = self._cluster.add_node(num_cpus=1)
        self._cluster.wait_for_nodes()
        ray.init(address=self._cluster.address, log_to_driver=False)

    def give_notice(self) -> str:
        """Tell the second node that it will be preempted; its id."""
        client = GcsClient(address=self._cluster.address)
        in_a_minute = int((time.time() + 60) * 1000)
        node = self._going.node_id
        accepted, why = client.drain_node(node, DRAIN_NODE_REASON_PREEMPTION, "spot price", in_a_minute)
        assert accepted, why
        return node

    def take_away(self) -> None:
        """End the second node without a word."""
        self._cluster.remove_node(self._going, allow_graceful=False)

    def close(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    yield nodes
    nodes.close()


def test_a_preemption_notice_gives_children_back_and_the_nodes_end_costs_no_more(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    rig = Rig(tmp_path, CONFIG, workers=2)
    evaluator = PoolEvaluator(rig.pool)
    for child in (1, 2):
        evaluator.submit(assignment(child))
    for child in (1, 2):
        rig.in_training(child, 1)
    given_at = time.time()
    nodes.give_notice()
    moved = rig.until(lambda: [row for row in rig.attempts() if row[2] == "retry"], "a child is given back")
    assert time.time() - given_at < 10
    ((child, *_),) = moved
    evaluator.submit(assignment(3))
    assert all(outcome.failure is None for _, outcome in gather(evaluator, 3))
    first, second = rig.history(child)
    assert (first.verdict, first.cause) == (Verdict.RETRY, Cause.PREEMPTED)
    assert (second.verdict, second.cause) == (Verdict.OUTCOME, None)
    assert second.outcome is not None
    assert len(second.outcome.curve) == 10
    others = {rig.history(other)[-1].slot for other in (1, 2, 3)}
    assert others == {second.slot} != {first.slot}  # the draining node got no other child
    nodes.take_away()
    evaluator.submit(assignment(4))
    assert dict(gather(evaluator, 1))[4].failure is None
    assert {attempt.cause for attempt in rig.history(4)} <= {None, Cause.PREEMPTED}
    end(rig.actors)
