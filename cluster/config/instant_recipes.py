"""The named runs whose children train nothing: a known function, or a benchmark's table."""

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from controller.searchers.policy_gradient.options import ReinforceOptions


def synthetic() -> RunConfig:
    """Test a cluster with children that only compute a known function of their architecture."""
    return RunConfig(
        max_children=256,
        task=TaskOptions(task="synthetic"),
        budget=Budget(epochs=10),
        topology=Topology(replicas=2, shards=2, children=4),
        searcher_options=ReinforceOptions(controller_learning_rate=0.005),
        reward="accuracy",
    )


def nasbench201() -> RunConfig:
    """Search NAS-Bench-201's cells on CIFAR-10 in its table, without training (--data: the folder with the table)."""
    return RunConfig(
        max_children=1_000,
        task=TaskOptions(task="nasbench201"),
        budget=Budget(epochs=12),
        topology=Topology(replicas=2, shards=2, children=4),
        space="nasbench201",
        # Without a bonus the policy settles early and tries few other cells; measured in docs/compare.md.
        searcher_options=ReinforceOptions(controller_learning_rate=0.005, entropy_bonus=0.001),
        reward="accuracy",
    )


def rehearsal() -> RunConfig:
    """Rehearse the paper's layout on one small machine: 20 shards, 100 replicas, 800 instant children at once."""
    return RunConfig(
        max_children=2_400,
        task=TaskOptions(task="synthetic"),
        budget=Budget(epochs=10),
        topology=Topology(workers_per_process=400),
        searcher_options=ReinforceOptions(controller_learning_rate=0.005),
        reward="accuracy",
    )
