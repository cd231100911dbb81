"""Variants of a run, and the number of children for each."""

from typing import Any

import pytest

from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.variants import MAX_TRIED, children_per_variant, variants

NOTHING_LOST = ClusterModel(child_seconds=ChildSeconds("constant", 60.0))
PREEMPTED = ClusterModel(child_seconds=ChildSeconds("constant", 60.0), preempted_per_s=1e-5)


def run(failures: FailureOptions | None = None, max_children: int = 12_800, **topology: Any) -> RunConfig:
    return RunConfig(
        max_children=max_children,
        task=TaskOptions(task="synthetic"),
        topology=Topology(**topology),
        failures=failures or FailureOptions(),
    )


def flags(config: RunConfig, model: ClusterModel = NOTHING_LOST) -> list[str]:
    return [variant.flags for variant in variants(config, model)]


def test_the_papers_layout_is_changed_in_one_thing_at_a_time() -> None:
    assert flags(run()) == [
        "--batching stream",
        "--replicas 200 --workers 800",
        "--replicas 200 --workers 1600",
        "--workers 600",
        "--shards 40",
    ]


@pytest.mark.parametrize(
    ("config", "model", "is_tried"),
    [
        (run(batching="stream"), NOTHING_LOST, False),
        (run(consistency="sync"), NOTHING_LOST, False),
        (run(consistency="ssp"), NOTHING_LOST, True),
    ],
)
def test_streams_are_tried_where_possible(config: RunConfig, model: ClusterModel, is_tried: bool) -> None:
    assert ("--batching stream" in flags(config, model)) == is_tried


def test_checkpoints_are_tried_under_preemptions_without_checkpoints() -> None:
    assert "--checkpoint-children" in flags(run(), PREEMPTED)
    assert "--checkpoint-children" not in flags(run())
    assert "--checkpoint-children" not in flags(run(FailureOptions(checkpoint_children=True)), PREEMPTED)


def test_more_workers_are_tried_where_children_wait_and_one_is_kept() -> None:
    assert "--workers 200" in flags(run(workers=100))
    assert "--workers 800" in flags(run(workers=500))
    one = flags(run(replicas=1, children=1, workers=1))
    assert one == ["--batching stream", "--replicas 2 --workers 1", "--replicas 2 --workers 2", "--shards 40"]


def test_a_variant_differs_in_nothing_but_its_flags() -> None:
    config = run()
    found = {variant.flags: variant.config for variant in variants(config, PREEMPTED)}
    assert found["--batching stream"].topology.batching == "stream"
    assert found["--replicas 200 --workers 800"].topology.replicas == 200
    assert found["--checkpoint-children"].failures.checkpoint_children
    for changed in found.values():
        assert (changed.seed, changed.max_children, changed.task) == (config.seed, config.max_children, config.task)


def test_the_number_of_children_is_bounded_on_both_sides() -> None:
    assert children_per_variant(run(), 7) == 24_000 // 7
    assert children_per_variant(run(max_children=100), 7) == 100
    assert children_per_variant(run(replicas=200), 7) == 3 * 1600
    assert children_per_variant(run(replicas=12_500), 7) is None
    for replicas in (1, 100, 150, 200, 300, 1000):
        assert (children_per_variant(run(replicas=replicas), 7) or 0) * 7 <= MAX_TRIED
