"""The named runs. Each is a function that returns a configuration; the command line can change any part of it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from child_trainer import own_files
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.own_files import OwnFileError
from child_trainer.tasks.entry import TEXT_BUDGET
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from controller.catalogue import find_entry
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


RECIPES: Mapping[str, Callable[[], RunConfig]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "zoph2017-cifar10": zoph2017_cifar10,
    "text-rnn": text_rnn,
    "wikitext2-rnn": wikitext2_rnn,
    "zoph2017-ptb": zoph2017_ptb,
    "synthetic": synthetic,
    "nasbench201": nasbench201,
    "rehearsal": rehearsal,
}


def find_recipe(name: str) -> Callable[[], RunConfig]:
    """Return the recipe called `name`, or the function that `FILE.py:NAME` is.

    Raises:
        UnknownName: no recipe of ours has this name.
        OwnFileError: the file cannot be loaded, or does not define a recipe.
    """
    if not own_files.is_own(name):
        return find_entry(RECIPES, name, "recipe")
    made = own_files.load(name)
    if not callable(made) or isinstance(made, type):
        raise OwnFileError(f"{name} must be a function that returns a RunConfig, got {type(made).__name__}")

    def recipe() -> RunConfig:
        config = made()
        if not isinstance(config, RunConfig):
            raise OwnFileError(f"{name} must return a RunConfig, got {type(config).__name__}")
        return config

    recipe.__doc__ = made.__doc__
    return recipe


def recipe_label(name: str) -> str:
    """Return the recipe's name without its file, which begins the names of its runs."""
    return name.rpartition(":")[2]


def changed(ours: RunConfig, theirs: RunConfig) -> list[str]:
    """Return the names of the fields in which two configurations differ."""
    return [f.name for f in fields(ours) if getattr(ours, f.name) != getattr(theirs, f.name)]


def differences(recipe: RunConfig) -> dict[str, Any]:
    """Return the values of a recipe that differ from the defaults, which are the paper's, by flag."""
    return _differences(recipe, RunConfig())


def _differences(ours: Any, default: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for f in fields(ours):
        mine, usual = getattr(ours, f.name), getattr(default, f.name)
        if is_dataclass(mine):
            settings |= _differences(mine, usual if type(usual) is type(mine) else type(mine)())  # pyright: ignore[reportCallIssue]
        elif mine != usual:
            settings[f.name.replace("_", "-")] = mine
    return settings
