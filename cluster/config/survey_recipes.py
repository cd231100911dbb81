"""The named runs of the survey's systems that train each child from scratch.

A run on CIFAR-10 has the constants of its paper (spec §3 to §8); where a paper leaves one open, the spec names the
value that is taken. A run on digits is the same system with fewer and smaller children: minutes on two cores, and no
download.
"""

from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.neat.options import NeatOptions
from controller.searchers.policy_gradient.options import PpoOptions
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.q_learning.options import QLearningOptions
from controller.searchers.seed_agem.options import SeedAgemOptions
from controller.spaces.cells import AmoebaNetSpace, NasNetSpace, PnasSpace
from controller.spaces.chain import ChainSpace
from controller.spaces.genomes import GenomeSpace
from controller.spaces.hierarchical import HierarchicalSpace
from controller.spaces.subnetworks import SubnetworkSpace

CIFAR10 = TaskOptions(task="cifar10")

DIGITS = TaskOptions(task="digits")

ONE_POPULATION = "stream"
"""Batching of searches that learn from each child by itself: a new one is sampled as soon as one has ended."""

SMALL = Topology(replicas=1, shards=1, children=8, batching=ONE_POPULATION)
"""The layout of a small run whose searcher learns from the history."""

COSINE = Regime(schedule="cosine")


def nasnet_cifar10() -> RunConfig:
    """Search NASNet's cells on CIFAR-10 by PPO as the paper did: 20,000 networks of 20 epochs, 500 at once."""
    return RunConfig(
        max_children=20_000,
        task=CIFAR10,
        budget=Budget(epochs=20, batch_size=32, learning_rate=0.025, weight_decay=5e-4, regime=COSINE),
        topology=Topology(replicas=25, children=20),
        space="nasnet",
        space_options=NasNetSpace(),
        searcher="ppo",
        searcher_options=PpoOptions(),
        reward="accuracy",
    )


def nasnet_digits() -> RunConfig:
    """Search small NASNet cells by PPO on digits, in minutes on two cores, no download."""
    return RunConfig(
        max_children=96,
        task=DIGITS,
        budget=Budget(epochs=4, batch_size=32, learning_rate=0.05, regime=COSINE),
        topology=Topology(replicas=2, shards=2, children=4),
        space="nasnet",
        space_options=NasNetSpace(blocks=2, cells_per_stage=1, filters=4),
        searcher="ppo",
        # A few dozen children instead of 20,000: larger steps.
        searcher_options=PpoOptions(controller_learning_rate=0.005),
        reward="accuracy",
    )


def amoebanet_cifar10() -> RunConfig:
    """Evolve AmoebaNet's cells on CIFAR-10 as the paper did: 20,000 networks of 25 epochs, 450 at once."""
    return RunConfig(
        max_children=20_000,
        task=CIFAR10,
        budget=Budget(epochs=25, batch_size=128, learning_rate=0.024, weight_decay=5e-4, regime=COSINE),
        topology=Topology(replicas=1, shards=1, children=450, batching=ONE_POPULATION),
        space="amoebanet",
        space_options=AmoebaNetSpace(),
        searcher="evolution",
        searcher_options=EvolutionOptions(),
        reward="accuracy",
    )


def amoebanet_digits() -> RunConfig:
    """Evolve small AmoebaNet cells on digits, in minutes on two cores, no download."""
    return RunConfig(
        max_children=96,
        task=DIGITS,
        budget=Budget(epochs=4, batch_size=32, learning_rate=0.05, regime=COSINE),
        topology=SMALL,
        space="amoebanet",
        space_options=AmoebaNetSpace(blocks=2, cells_per_stage=1, filters=4),
        searcher="evolution",
        searcher_options=EvolutionOptions(population=20, tournament=10),
        reward="accuracy",
    )


def pnas_cifar10() -> RunConfig:
    """Search PNAS's cells on CIFAR-10 by growing levels as the paper did: 1,160 networks of 20 epochs, 100 at once."""
    return RunConfig(
        # 136 cells of one block, and 256 of each larger size.
        max_children=1_160,
        task=CIFAR10,
        budget=Budget(epochs=20, batch_size=128, learning_rate=0.01, weight_decay=5e-4, regime=COSINE),
        topology=Topology(replicas=1, shards=1, children=100, batching=ONE_POPULATION),
        space="pnas",
        space_options=PnasSpace(),
        searcher="progressive",
        searcher_options=ProgressiveOptions(),
        reward="accuracy",
    )


def pnas_digits() -> RunConfig:
    """Search small PNAS cells by growing levels on digits, in minutes on two cores, no download."""
    return RunConfig(
        # 21 cells of one block, and 24 of two and of three.
        max_children=69,
        task=DIGITS,
        budget=Budget(epochs=4, batch_size=32, learning_rate=0.05, regime=COSINE),
        topology=SMALL,
        space="pnas",
        space_options=PnasSpace(operations=("identity", "sep_3x3", "max_3x3"), blocks=3, cells_per_stage=1, filters=4),
        searcher="progressive",
        searcher_options=ProgressiveOptions(beam=24, embedding=20, hidden=20),
        reward="accuracy",
    )


def metaqnn_cifar10() -> RunConfig:
    """Search chains of layers on CIFAR-10 by Q-learning as MetaQNN did: 2,700 networks of 20 epochs, 10 at once."""
    return RunConfig(
        # It ends with the 2,700 unique networks of its schedule; a network that it makes again is a child too.
        max_children=20_000,
        task=CIFAR10,
        budget=Budget(
            epochs=20,
            batch_size=128,
            learning_rate=0.001,
            weight_decay=5e-4,
            regime=Regime(
                optimizer="adam",
                schedule="exponential",
                decay=0.2,
                decay_every=5.0,
                initial="xavier",
                restart_below=0.15,
            ),
        ),
        topology=Topology(replicas=1, shards=1, children=10, batching=ONE_POPULATION),
        space="chain",
        space_options=ChainSpace(),
        searcher="q-learning",
        searcher_options=QLearningOptions(ends_with_schedule=True),
        reward="accuracy",
    )


def metaqnn_digits() -> RunConfig:
    """Search short chains of layers by Q-learning on digits, in minutes on two cores, no download."""
    return RunConfig(
        max_children=128,
        task=DIGITS,
        budget=Budget(
            epochs=6,
            batch_size=32,
            learning_rate=0.002,
            weight_decay=5e-4,
            regime=Regime(
                optimizer="adam",
                schedule="exponential",
                decay=0.2,
                decay_every=5.0,
                initial="xavier",
                restart_below=0.15,
            ),
        ),
        topology=SMALL,
        space="chain",
        space_options=ChainSpace(
            image_size=8,
            num_filters=(4, 8, 16, 32),
            pool_sizes=(3, 2),
            pool_strides=(2, 2),
            units=(64, 32, 16),
            max_layers=6,
        ),
        searcher="q-learning",
        searcher_options=QLearningOptions(schedule_models=128, q_learning_rate=0.1),
        reward="accuracy",
    )


def hnas_cifar10() -> RunConfig:
    """Evolve hierarchical cells on CIFAR-10 as HNAS did: 7,000 networks of 5,000 steps, 200 at once."""
    return RunConfig(
        max_children=7_000,
        task=CIFAR10,
        # 5,000 steps of 256 images are 28 epochs of the 45,000.
        budget=Budget(epochs=28, batch_size=256),
        topology=Topology(replicas=1, shards=1, children=200, batching=ONE_POPULATION),
        space="hierarchical",
        space_options=HierarchicalSpace(),
        searcher="evolution",
        searcher_options=EvolutionOptions(population=200, tournament_share=0.05, dies="none", unchanged=0.0),
        reward="accuracy",
    )


def hnas_digits() -> RunConfig:
    """Evolve small hierarchical cells on digits, in minutes on two cores, no download."""
    return RunConfig(
        max_children=80,
        task=DIGITS,
        budget=Budget(epochs=4, batch_size=32, learning_rate=0.05, regime=COSINE),
        topology=SMALL,
        space="hierarchical",
        space_options=HierarchicalSpace(
            motifs_per_level=(3, 1), nodes_per_level=(3, 4), channels=4, initial_mutations=100
        ),
        searcher="evolution",
        searcher_options=EvolutionOptions(population=20, tournament_share=0.25, dies="none", unchanged=0.0),
        reward="accuracy",
    )


def seed_agem_digits() -> RunConfig:
    """Search two sub-networks, of which a policy selects one, on digits, in minutes on two cores, no download."""
    return RunConfig(
        max_children=24,
        task=TaskOptions(task="digits-subnetworks"),
        # The article's weights of the loss make the gradient of the true label ten times smaller: larger steps.
        budget=Budget(epochs=8, batch_size=32, learning_rate=1.0),
        topology=Topology(replicas=1, shards=1, children=4),
        space="subnetworks",
        space_options=SubnetworkSpace(
            layers=4, filter_heights=(1, 3, 5), filter_widths=(1, 3, 5), num_filters=(8, 16, 24, 32)
        ),
        searcher="seed-agem",
        # Two dozen children: larger steps than those of a search of thousands.
        searcher_options=SeedAgemOptions(controller_learning_rate=0.006),
        reward="accuracy",
    )


def neat_xor() -> RunConfig:
    """Evolve networks that compute exclusive or: no gradient, 100 generations of 150 at most, in about a minute."""
    return RunConfig(
        max_children=15_000,
        task=TaskOptions(task="xor"),
        budget=Budget(epochs=1),
        topology=Topology(replicas=1, shards=1, children=150),
        space="genomes",
        space_options=GenomeSpace(inputs=2),
        searcher="neat",
        searcher_options=NeatOptions(),
        reward="fitness",
    )


def neat_pole() -> RunConfig:
    """Evolve recurrent networks that balance two poles on a cart without being given velocities: no gradient."""
    return RunConfig(
        max_children=100_000,
        task=TaskOptions(task="double-pole-no-velocities"),
        budget=Budget(epochs=1),
        topology=Topology(replicas=1, shards=1, children=100),
        space="genomes",
        space_options=GenomeSpace(inputs=3, recurrent=True),
        searcher="neat",
        # The paper's settings for its large population, whose species differ by their weights: smaller steps.
        searcher_options=NeatOptions(
            population=1_000, add_link=0.3, difference_weight=3.0, threshold=4.0, weight_step=0.5, new_weight=1.0
        ),
        reward="fitness",
    )
