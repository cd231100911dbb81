"""The named runs of the systems whose children share the weights of one supernet.

A run on CIFAR-10 has the constants of its paper where the specification has them (spec §11). A run on digits is the
same system with a small supernet: minutes on two cores, and no download.
"""

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.config.weights_options import WeightsOptions
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.spaces.one_shot import OneShotSpace


def one_shot_cifar10() -> RunConfig:
    """Train Bender et al.'s supernet on CIFAR-10 with path dropout, then score 2,000 of its paths."""
    return RunConfig(
        max_children=2_100,
        task=TaskOptions(task="cifar10"),
        budget=Budget(batch_size=1024),
        topology=Topology(replicas=4, shards=1, children=4, batching="stream"),
        weights=WeightsOptions(weights_shards=4),
        space="one-shot",
        space_options=OneShotSpace(),
        searcher="one-shot",
        searcher_options=OneShotOptions(supernet_steps=10_000, steps_per_child=100, ghost_groups=32),
        reward="accuracy",
    )


def one_shot_digits() -> RunConfig:
    """Train a small supernet on digits with path dropout, then score 100 of its paths; minutes on two cores."""
    return RunConfig(
        max_children=140,
        task=TaskOptions(task="digits"),
        budget=Budget(batch_size=64),
        topology=Topology(replicas=1, shards=1, children=4, batching="stream"),
        space="one-shot",
        space_options=OneShotSpace(blocks=2, cells_per_stage=1, filters=8),
        searcher="one-shot",
        searcher_options=OneShotOptions(supernet_steps=800, steps_per_child=20, ghost_groups=2),
        reward="accuracy",
    )
