"""The named runs of Zoph & Le 2017: with the paper's constants, and smaller."""

from dataclasses import replace

from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.tasks.entry import TEXT_BUDGET
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.recurrent import RecurrentSpace


def digits() -> RunConfig:
    """Run a whole search in minutes on two cores: scikit-learn's 1,797 handwritten digits, no download."""
    return RunConfig(
        max_children=96,
        task=TaskOptions(task="digits"),
        budget=Budget(epochs=8, batch_size=32),
        topology=Topology(replicas=2, shards=2, children=4),
        # 8x8 images: fewer and narrower layers than the paper's, one more after every 32 children.
        space_options=ConvolutionalSpace(
            filter_heights=(1, 3, 5),
            filter_widths=(1, 3, 5),
            num_filters=(8, 16, 24, 32),
            initial_depth=4,
            depth_step=1,
            depth_interval=32,
            max_depth=6,
        ),
        # A few dozen children instead of 12,800: larger steps.
        searcher_options=ReinforceOptions(controller_learning_rate=0.006),
    )


def fashion_mnist() -> RunConfig:
    """Search on Fashion-MNIST, 28x28 grey images of clothes, with the paper's space at a small budget."""
    return RunConfig(
        max_children=256,
        task=TaskOptions(task="fashion-mnist"),
        budget=Budget(epochs=2, train_fraction=0.05),
        topology=Topology(replicas=4, shards=4, children=4),
        space_options=ConvolutionalSpace(strides=(1, 2), num_filters=(8, 16, 24, 32), initial_depth=4, max_depth=8),
        searcher_options=ReinforceOptions(controller_learning_rate=0.003),
    )


def cifar10() -> RunConfig:
    """Search on CIFAR-10 with the paper's space and preprocessing, at a budget for one machine."""
    return RunConfig(
        max_children=512,
        task=TaskOptions(task="cifar10"),
        budget=Budget(epochs=10, train_fraction=0.2),
        topology=Topology(replicas=4, shards=4, children=4),
        space_options=ConvolutionalSpace(strides=(1, 2, 3)),
        searcher_options=ReinforceOptions(controller_learning_rate=0.003),
    )


def zoph2017_cifar10() -> RunConfig:
    """Repeat the paper's search on CIFAR-10: 12,800 networks of 6 layers and more, 50 epochs each, 800 at once."""
    return RunConfig(task=TaskOptions(task="cifar10"))


def text_rnn() -> RunConfig:
    """Search recurrent cells on the text of Python's own manual, in minutes on two cores, no download."""
    return RunConfig(
        max_children=48,
        space="recurrent",
        reward="perplexity",
        task=TaskOptions(
            task="text",
            options=LanguageOptions(
                cell_layers=1,
                hidden_size=32,
                max_vocabulary=1000,
                embedding_dropout=0.0,
                variational_dropout=0.0,
                unroll=20,
            ),
        ),
        budget=replace(TEXT_BUDGET, epochs=2, batch_size=10, momentum=0.9),
        topology=Topology(replicas=2, shards=2, children=4),
        space_options=RecurrentSpace(base=4),
        searcher_options=ReinforceOptions(controller_learning_rate=0.006),
    )


def wikitext2_rnn() -> RunConfig:
    """Search recurrent cells on WikiText-2, at a budget for one machine."""
    return RunConfig(
        max_children=256,
        space="recurrent",
        reward="perplexity",
        task=TaskOptions(task="wikitext2", options=LanguageOptions(target_parameters=4_000_000, max_vocabulary=10_000)),
        # With the 20 streams and plain SGD of longer trainings, deep cells learn only the words' frequencies.
        budget=replace(TEXT_BUDGET, epochs=2, train_fraction=0.1, batch_size=10, momentum=0.9),
        topology=Topology(replicas=4, shards=4, children=4),
        searcher_options=ReinforceOptions(controller_learning_rate=0.003),
    )


def zoph2017_ptb() -> RunConfig:
    """Repeat the paper's search on Penn Treebank: 400 replicas of one child each, 10 gradients an update, 35 epochs."""
    return RunConfig(
        space="recurrent",
        reward="perplexity",
        task=TaskOptions(task="ptb"),
        budget=replace(TEXT_BUDGET, epochs=35),
        topology=Topology(replicas=400, children=1, accumulate=10),
        searcher_options=ReinforceOptions(controller_learning_rate=0.0005),
    )
