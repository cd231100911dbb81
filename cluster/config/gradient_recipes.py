"""The named runs of the systems that learn the strengths of a supernet's options by gradient.

A run on CIFAR-10 has the constants of its paper where the specification has them (spec §12 to §14). A run on digits is
the same system with a small supernet: minutes on two cores, and no download.
"""

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.config.weights_options import WeightsOptions
from controller.searchers.weight_sharing.gradient_options import (
    DartsOptions,
    GradientOptions,
    ProxylessOptions,
    SnasOptions,
)
from controller.space import SearchSpace
from controller.spaces import darts, mbconv

CIFAR10_MBCONV = mbconv.MbconvSpace(stem_stride=1)
"""ProxylessNAS's space for small images; its own on CIFAR-10 has cells instead (spec §9.2)."""


def darts_cifar10() -> RunConfig:
    """Search DARTS's cells on CIFAR-10: 50 epochs of 390 steps with batches of 64, one after another."""
    return _cifar10("darts", darts.DartsSpace(), DartsOptions(steps_per_child=39), batch_size=64)


def snas_cifar10() -> RunConfig:
    """Search DARTS's cells on CIFAR-10 by SNAS: 150 epochs, with its mild constraint on the number of weights."""
    options = SnasOptions(steps_per_epoch=703, steps_per_child=37, cost="parameters")
    return _cifar10("snas", darts.DartsSpace(), options, batch_size=64)


def proxyless_cifar10() -> RunConfig:
    """Search inverted bottlenecks on CIFAR-10 by ProxylessNAS: 40 epochs of weights alone, then 120."""
    options = ProxylessOptions(steps_per_epoch=175, steps_per_child=35)
    return _cifar10("proxyless", CIFAR10_MBCONV, options, batch_size=256)


def darts_digits() -> RunConfig:
    """Search DARTS's cells on digits with a small supernet; minutes on two cores."""
    options = DartsOptions(search_epochs=10, steps_per_epoch=30, steps_per_child=15, strengths_learning_rate=0.02)
    return _digits("darts", darts.DIGITS, options)


def snas_digits() -> RunConfig:
    """Search DARTS's cells on digits by SNAS with a small supernet; minutes on two cores."""
    options = SnasOptions(search_epochs=10, steps_per_epoch=30, steps_per_child=15, strengths_learning_rate=0.02)
    return _digits("snas", darts.DIGITS, options)


def proxyless_digits() -> RunConfig:
    """Search inverted bottlenecks on digits by ProxylessNAS with a small supernet; minutes on two cores."""
    options = ProxylessOptions(
        weights_only_epochs=6,
        weights_only_learning_rate=0.2,
        weights_learning_rate=0.1,
        search_epochs=10,
        steps_per_epoch=40,
        steps_per_child=20,
        strengths_learning_rate=0.05,
        strengths_period=2,
    )
    return _digits("proxyless", mbconv.DIGITS, options)


def _cifar10(searcher: str, space: SearchSpace, options: GradientOptions, batch_size: int) -> RunConfig:
    # One child at a time: the steps come one after another, as in the papers.
    topology = Topology(replicas=1, shards=1, children=1)
    return _run("cifar10", searcher, space, options, batch_size, topology, WeightsOptions(weights_shards=2))


def _digits(searcher: str, space: SearchSpace, options: GradientOptions) -> RunConfig:
    # Larger steps of the strengths, of which there are some hundred instead of 20,000.
    topology = Topology(replicas=1, shards=1, children=1)
    return _run("digits", searcher, space, options, 64, topology, WeightsOptions())


def _run(
    task: str,
    searcher: str,
    space: SearchSpace,
    options: GradientOptions,
    batch_size: int,
    topology: Topology,
    weights: WeightsOptions,
) -> RunConfig:
    return RunConfig(
        max_children=options.num_children,
        task=TaskOptions(task=task),
        budget=Budget(batch_size=batch_size),
        topology=topology,
        weights=weights,
        space="mbconv" if isinstance(space, mbconv.MbconvSpace) else "darts",
        space_options=space,
        searcher=searcher,
        searcher_options=options,
        reward="accuracy",
    )
