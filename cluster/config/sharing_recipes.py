"""The named runs of the systems whose children share the weights of one supernet.

A run on CIFAR-10 has the constants of its paper where the specification has them (spec §6, §10, §11). A run on digits
is the same system with a small supernet: minutes on two cores, and no download.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.config.weights_options import WeightsOptions
from controller.searchers.weight_sharing.gradient_options import DartsOptions, GradientOptions, SnasOptions
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.searchers.weight_sharing.path_options import EnasOptions, SmashOptions
from controller.spaces import enas_macro, enas_micro, nasbench201, one_shot, smash

CIFAR10 = TaskOptions(task="cifar10")

DIGITS = TaskOptions(task="digits")

ENAS_DIGITS = EnasOptions(
    # Some hundred scores instead of 310,000: larger steps, and no luck of a few images.
    search_epochs=5,
    steps_per_epoch=200,
    policy_children=40,
    score_batches=0,
    controller_learning_rate=0.01,
    baseline_decay=0.9,
    weights_learning_rate=0.1,
    restart_epochs=5,
)
"""Five epochs of ten children that train the weights, and forty that the policy learns from."""


def enas_macro_cifar10() -> RunConfig:
    """Search ENAS's macro space on CIFAR-10: 12 layers, 310 epochs of 352 steps and 1,000 scores (spec §6.1)."""
    options = EnasOptions(search_epochs=310, steps_per_epoch=352, steps_per_child=44, policy_children=1_000)
    return RunConfig(
        max_children=options.searching_children + 100,
        task=CIFAR10,
        budget=Budget(batch_size=128),
        topology=Topology(replicas=1, shards=1, children=20),
        weights=WeightsOptions(weights_shards=2),
        space="enas-macro",
        space_options=enas_macro.EnasMacroSpace(),
        searcher="enas",
        searcher_options=options,
        reward="accuracy",
    )


def enas_micro_cifar10() -> RunConfig:
    """Search ENAS's cells on CIFAR-10: 150 epochs of 282 steps and 300 scores (spec §6.2)."""
    options = EnasOptions(
        search_epochs=150,
        steps_per_epoch=282,
        steps_per_child=47,
        policy_children=300,
        controller_learning_rate=0.0035,
        tanh_constant=1.1,
        operation_tanh_reduce=2.5,
        favoured_operations=("sep_3x3", "sep_5x5"),
        weights_l2=1e-4,
    )
    return RunConfig(
        max_children=options.searching_children + 100,
        task=CIFAR10,
        budget=Budget(batch_size=160),
        topology=Topology(replicas=1, shards=1, children=10),
        weights=WeightsOptions(weights_shards=2),
        space="enas-micro",
        space_options=enas_micro.EnasMicroSpace(),
        searcher="enas",
        searcher_options=options,
        reward="accuracy",
    )


def enas_macro_digits() -> RunConfig:
    """Search small networks of ENAS's macro space on digits; minutes on two cores, no download."""
    return RunConfig(
        max_children=ENAS_DIGITS.searching_children + 50,
        task=DIGITS,
        budget=Budget(batch_size=64),
        topology=Topology(replicas=1, shards=1, children=10),
        space="enas-macro",
        space_options=enas_macro.DIGITS,
        searcher="enas",
        searcher_options=ENAS_DIGITS,
        reward="accuracy",
    )


def enas_micro_digits() -> RunConfig:
    """Search small cells of ENAS's micro space on digits; minutes on two cores, no download."""
    return RunConfig(
        max_children=ENAS_DIGITS.searching_children + 50,
        task=DIGITS,
        budget=Budget(batch_size=64),
        topology=Topology(replicas=1, shards=1, children=10),
        space="enas-micro",
        space_options=enas_micro.DIGITS,
        searcher="enas",
        searcher_options=replace(ENAS_DIGITS, tanh_constant=1.1, operation_tanh_reduce=2.5),
        reward="accuracy",
    )


def one_shot_cifar10() -> RunConfig:
    """Train Bender et al.'s supernet on CIFAR-10 with path dropout, then score 2,000 of its paths."""
    return RunConfig(
        max_children=2_100,
        task=CIFAR10,
        budget=Budget(batch_size=1024),
        topology=Topology(replicas=4, shards=1, children=4, batching="stream"),
        weights=WeightsOptions(weights_shards=4),
        space="one-shot",
        space_options=one_shot.OneShotSpace(),
        searcher="one-shot",
        searcher_options=OneShotOptions(supernet_steps=10_000, steps_per_child=100, ghost_groups=32),
        reward="accuracy",
    )


def one_shot_digits() -> RunConfig:
    """Train a small supernet on digits with path dropout, then score 100 of its paths; minutes on two cores."""
    return RunConfig(
        max_children=140,
        task=DIGITS,
        budget=Budget(batch_size=64),
        topology=Topology(replicas=1, shards=1, children=4, batching="stream"),
        space="one-shot",
        space_options=one_shot.DIGITS,
        searcher="one-shot",
        searcher_options=OneShotOptions(supernet_steps=800, steps_per_child=20, ghost_groups=2),
        reward="accuracy",
    )


def smash_cifar10() -> RunConfig:
    """Train SMASH's hypernetwork on CIFAR-10 for 100 epochs, then score 500 random paths and 100 close to the best."""
    options = SmashOptions(supernet_steps=90_000, steps_per_child=100)
    return RunConfig(
        max_children=options.training_children + options.random_paths + 100,
        task=CIFAR10,
        budget=Budget(batch_size=50),
        topology=Topology(replicas=4, shards=1, children=4, batching="stream"),
        weights=WeightsOptions(weights_shards=4),
        space="smash",
        space_options=smash.SmashSpace(),
        searcher="smash",
        searcher_options=options,
        reward="accuracy",
    )


def smash_digits() -> RunConfig:
    """Train a small hypernetwork on digits, then score 100 paths with its weights; minutes on two cores."""
    options = SmashOptions(
        supernet_steps=800, random_paths=80, hyper_growth=4, hyper_depths=(3, 2), weights_learning_rate=0.003
    )
    return RunConfig(
        max_children=options.training_children + options.random_paths + 20,
        task=DIGITS,
        budget=Budget(batch_size=64),
        topology=Topology(replicas=1, shards=1, children=4, batching="stream"),
        space="smash",
        space_options=smash.DIGITS,
        searcher="smash",
        searcher_options=options,
        reward="accuracy",
    )


SCORED = 60
"""Children that are scored at last on a supernet of NAS-Bench-201's cells."""


def nasbench201_supernet(searcher: str = "one-shot") -> RunConfig:
    """Train a small supernet of NAS-Bench-201's cells on CIFAR-10 with --searcher one-shot, enas, darts or snas."""
    options = _NASBENCH201.get(searcher, _NASBENCH201["one-shot"])
    match options:
        case OneShotOptions():
            children = options.training_children + SCORED
        case EnasOptions():
            children = options.searching_children + SCORED
        case _:
            children = options.num_children
    # Measured for single paths: without it, their order says nothing after as many steps (docs/correlation.md).
    regime = Regime(initial="identity") if isinstance(options, OneShotOptions) else Regime()
    return RunConfig(
        max_children=children,
        task=CIFAR10,
        budget=Budget(batch_size=64, regime=regime),
        topology=Topology(
            replicas=1, shards=1, children=1 if isinstance(options, GradientOptions) else 4, batching="stream"
        ),
        space="nasbench201",
        space_options=nasbench201.NasBench201Space(cells_per_stage=1, stem_channels=8),
        searcher=searcher if searcher in _NASBENCH201 else "one-shot",
        searcher_options=options,
        reward="accuracy",
    )


_NASBENCH201: Mapping[str, OneShotOptions | EnasOptions | DartsOptions | SnasOptions] = MappingProxyType(
    {
        "one-shot": OneShotOptions(
            trains="one-path",
            supernet_steps=10_000,
            steps_per_child=50,
            weights_learning_rate=0.1,
            weights_last_learning_rate=0.0,
            weights_l2=2.5e-4,
            weights_clip_norm=5.0,
        ),
        "enas": EnasOptions(
            search_epochs=10,
            steps_per_epoch=800,
            steps_per_child=50,
            policy_children=40,
            controller_learning_rate=0.01,
            baseline_decay=0.9,
            weights_learning_rate=0.1,
        ),
        "darts": DartsOptions(search_epochs=10, steps_per_epoch=100, strengths_learning_rate=0.02, steps_per_child=25),
        "snas": SnasOptions(search_epochs=10, steps_per_epoch=100, strengths_learning_rate=0.02, steps_per_child=25),
    }
)
"""The options of each searcher: a quarter of an hour on two cores."""
