"""The named runs of EAS, on plain networks and on DenseNets, and of path-level EAS, whose children grow from others.

They are to their papers as those of `survey_recipes.py` are.
"""

from dataclasses import replace

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.survey_recipes import CIFAR10, COSINE, DIGITS
from cluster.config.topology import Topology
from controller.searchers.transformations.options import EasOptions, PathEasOptions
from controller.spaces.densenet import DIGITS as DIGITS_DENSENETS
from controller.spaces.densenet import DenseNetSpace
from controller.spaces.plain import DIGITS as DIGITS_CHAINS
from controller.spaces.plain import PlainSpace
from controller.spaces.tree_cells import DIGITS as DIGITS_TREES
from controller.spaces.tree_cells import TreeCellSpace


def eas_cifar10() -> RunConfig:
    """Grow plain networks on CIFAR-10 by EAS as the paper did: 450 networks of 20 epochs in two stages, 10 at once."""
    return RunConfig(
        # The start, 300 networks that grow from it, and 150 that grow from the best of these.
        max_children=451,
        task=CIFAR10,
        budget=Budget(epochs=20, batch_size=64, learning_rate=0.02, weight_decay=1e-4, regime=COSINE),
        topology=Topology(replicas=1, shards=1, children=10),
        space="plain",
        space_options=PlainSpace(),
        searcher="eas",
        searcher_options=EasOptions(stage_children=(300, 150)),
        reward="tangent-accuracy",
    )


def eas_digits() -> RunConfig:
    """Grow small plain networks on digits by EAS in two stages, in minutes on two cores, no download."""
    return RunConfig(
        # The start, and two stages of 12 children.
        max_children=25,
        task=DIGITS,
        budget=Budget(epochs=8, batch_size=32, learning_rate=0.02, regime=COSINE),
        topology=Topology(replicas=1, shards=1, children=4),
        space="plain",
        space_options=DIGITS_CHAINS,
        searcher="eas",
        # A few children instead of hundreds: fewer changes of each, and larger steps.
        searcher_options=EasOptions(
            stage_children=(12, 12), wider_steps=1, deeper_steps=2, controller_learning_rate=0.01
        ),
        reward="tangent-accuracy",
    )


def eas_dense_cifar10() -> RunConfig:
    """Grow DenseNets on CIFAR-10 by EAS with its code's constants: 10 wider and 5 deeper steps, growth rates to 48."""
    # As many as for plain networks: the paper does not say how many DenseNets it trained.
    return replace(
        eas_cifar10(),
        space="densenet",
        space_options=DenseNetSpace(),
        searcher_options=EasOptions(stage_children=(300, 150), wider_steps=10, deeper_steps=5),
    )


def eas_dense_digits() -> RunConfig:
    """Grow small DenseNets on digits by EAS in two stages, in about a minute on two cores, no download."""
    return replace(
        eas_digits(),
        space="densenet",
        space_options=DIGITS_DENSENETS,
        searcher_options=EasOptions(
            stage_children=(12, 12), wider_steps=2, deeper_steps=2, controller_learning_rate=0.01
        ),
    )


def path_eas_cifar10() -> RunConfig:
    """Grow cells as trees on CIFAR-10 by path-level EAS as the paper did: 500 networks of 20 epochs, 10 at once."""
    return RunConfig(
        # The start, and 500 networks that grow from it.
        max_children=501,
        task=CIFAR10,
        budget=Budget(epochs=20, batch_size=64, learning_rate=0.035, weight_decay=1e-4, regime=COSINE),
        topology=Topology(replicas=1, shards=1, children=10),
        space="tree-cells",
        space_options=TreeCellSpace(),
        searcher="path-eas",
        searcher_options=PathEasOptions(),
        reward="tangent-accuracy",
    )


def path_eas_digits() -> RunConfig:
    """Grow the cells of a small network as trees on digits by path-level EAS, in minutes on two cores, no download."""
    return RunConfig(
        # The start, and 24 networks that grow from it.
        max_children=25,
        task=DIGITS,
        budget=Budget(epochs=8, batch_size=32, learning_rate=0.1, regime=COSINE),
        topology=Topology(replicas=1, shards=1, children=4),
        space="tree-cells",
        space_options=DIGITS_TREES,
        searcher="path-eas",
        # A few children instead of hundreds: a smaller policy.
        searcher_options=PathEasOptions(encoder_units=24),
        reward="tangent-accuracy",
    )
