"""The named runs of the searches for recurrent cells whose children share weights (spec §6.3, §12.4).

By default they are small: minutes on two cores, and no download. With `--task ptb` or `wikitext2` they have the
constants of the authors' code for Penn Treebank, as far as this cluster has such options: there is one rate of dropout,
and no penalty on activations.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.config.weights_options import WeightsOptions
from controller.searchers.weight_sharing.gradient_options import DartsOptions
from controller.searchers.weight_sharing.path_options import EnasOptions
from controller.spaces import darts_rnn as darts_space
from controller.spaces import enas_rnn as enas_space

WORDS: Mapping[str, int] = MappingProxyType({"ptb": 929_589, "wikitext2": 2_088_628})
"""Words of the training texts, ends of lines included, for which the recipes have the authors' constants."""

SMALL = LanguageOptions(
    cell_layers=1,
    hidden_size=32,
    tied_embeddings=True,
    max_vocabulary=1000,
    embedding_dropout=0.0,
    variational_dropout=0.0,
    unroll=20,
)
"""The language model of a small search, on the text of Python's own manual."""


ENAS_CODE = EnasOptions(
    entropy_bonus=1e-5,
    temperature=5.0,
    tanh_constant=2.25,
    weights_learning_rate=20.0,
    weights_momentum=0.0,
    weights_l2=8e-7,
    refit_batches=0,
)
"""What the small search has in common with ENAS's code for Penn Treebank."""

DARTS_CODE = DartsOptions(
    weights_learning_rate=20.0,
    weights_momentum=0.0,
    weights_decay=5e-7,
    weights_clip_norm=0.25,
    strengths_beta1=0.9,
    refit_batches=0,
)
"""What the small search has in common with DARTS's code for Penn Treebank."""


def enas_rnn(task: str = "text") -> RunConfig:
    """Search ENAS's recurrent cells on Python's own manual, in minutes; or with its code's constants: --task ptb."""
    if task not in WORDS:
        options = replace(
            ENAS_CODE,
            # Some hundred scores instead of 150,000: larger steps of the policy, larger first weights, and scores on
            # more than one batch.
            search_epochs=8,
            steps_per_epoch=100,
            steps_per_child=20,
            policy_children=40,
            score_batches=2,
            controller_learning_rate=0.02,
            baseline_decay=0.9,
            weights_last_learning_rate=2.0,
            restart_epochs=8,
            weights_clip_norm=0.25,
        )
        return _enas(TaskOptions(task="text", options=SMALL), enas_space.TEXT, options, Budget(batch_size=32))
    batch, unroll = 128, 35
    options = replace(
        ENAS_CODE,
        search_epochs=600,
        steps_per_epoch=WORDS[task] // (batch * unroll),
        steps_per_child=23,
        policy_children=250,
        controller_init=0.01,
        controller_learning_rate=5e-5,
        baseline_decay=0.999,
        weights_last_learning_rate=20.0,
        restart_epochs=600,
        weights_clip_norm=0.1,
    )
    language = LanguageOptions(
        cell_layers=1, hidden_size=200, tied_embeddings=True, embedding_dropout=0.1, unroll=unroll
    )
    return _enas(TaskOptions(task=task, options=language), enas_space.EnasRnnSpace(), options, Budget(batch_size=batch))


def _enas(task: TaskOptions, space: enas_space.EnasRnnSpace, options: EnasOptions, budget: Budget) -> RunConfig:
    return RunConfig(
        max_children=options.searching_children + (20 if space == enas_space.TEXT else 100),
        task=task,
        budget=budget,
        topology=Topology(replicas=1, shards=1, children=5 if space == enas_space.TEXT else 10),
        weights=WeightsOptions(weights_shards=1 if space == enas_space.TEXT else 4),
        space="enas-rnn",
        space_options=space,
        searcher="enas",
        searcher_options=options,
        reward="inverse-perplexity",
    )


def darts_rnn(task: str = "text") -> RunConfig:
    """Search DARTS's recurrent cells on Python's own manual, in minutes; or with its code's constants: --task ptb."""
    if task not in WORDS:
        options = replace(
            DARTS_CODE,
            # Some hundred steps instead of some thousand: larger ones of the strengths, and a rate that falls.
            search_epochs=8,
            steps_per_epoch=60,
            steps_per_child=20,
            weights_last_learning_rate=2.0,
            strengths_learning_rate=0.02,
        )
        return _darts(TaskOptions(task="text", options=SMALL), darts_space.TEXT, options, Budget(batch_size=32))
    batch, unroll = 256, 35
    options = replace(
        DARTS_CODE,
        search_epochs=50,
        steps_per_epoch=WORDS[task] // (batch * unroll),
        steps_per_child=26,
        weights_last_learning_rate=20.0,
        strengths_learning_rate=0.003,
    )
    language = LanguageOptions(
        cell_layers=1, hidden_size=300, tied_embeddings=True, embedding_dropout=0.0, unroll=unroll
    )
    return _darts(
        TaskOptions(task=task, options=language), darts_space.DartsRnnSpace(), options, Budget(batch_size=batch)
    )


def _darts(task: TaskOptions, space: darts_space.DartsRnnSpace, options: DartsOptions, budget: Budget) -> RunConfig:
    return RunConfig(
        max_children=options.num_children,
        task=task,
        budget=budget,
        # One child at a time: the steps come one after another, as in the paper.
        topology=Topology(replicas=1, shards=1, children=1),
        weights=WeightsOptions(weights_shards=1 if space == darts_space.TEXT else 2),
        space="darts-rnn",
        space_options=space,
        searcher="darts",
        searcher_options=options,
        reward="inverse-perplexity",
    )
