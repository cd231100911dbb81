"""Options that were given and have no effect in the run that they are given for."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from child_trainer import own_files
from child_trainer.language_options import LanguageOptions
from cluster.config.flags import flag_groups, flag_of
from cluster.config.run_config import RunConfig
from controller.searcher import shared_weights_of
from controller.spaces.convolutional import ConvolutionalSpace

Idle = tuple[Collection[str], str]
"""Names of options, and why they have no effect."""

WORKERS = ("workers", "workers_per_process", "worker_silence", "recycle_after")
"""Options of workers, which are processes of their own."""

SHARDS = ("shards", "accumulate", "consistency", "staleness_bound", "on_stale", "max_staleness")
"""Options of the parameters on the shards."""

WEIGHTS = (
    "weights_shards",
    "weights_snapshot",
    "weights_consistency",
    "weights_staleness_bound",
    "weights_on_stale",
    "weights_max_staleness",
)
"""Options of the weights that children share."""

TRAINING = ("batch_size", "learning_rate", "weight_decay", "momentum", "threads_per_child")
"""Options of training a network."""

WITHOUT_DATA = ("digits", "text")
"""Tasks that train on data that the installation brings."""


def idle_options(config: RunConfig, arguments: Sequence[str]) -> list[str]:
    """Return a sentence for each group of given flags that have no effect in this run.

    Args:
        config: what the command line gave.
        arguments: of the command line; only flags in it are reported, not the recipe's values.
    """
    given = {flag_of(group[0]).removeprefix("--"): flag_of(group[0]) for group in flag_groups(arguments)}
    given = {name.removeprefix("no-").replace("-", "_"): flag for name, flag in given.items()}
    sentences = []
    idle = [*_of_the_run(config), *_of_the_task(config), *_of_the_space(config)]
    if not given.keys().isdisjoint((*SHARDS, *WEIGHTS)):
        idle += _of_the_shards(config)
    for names, reason in idle:
        if flags := [f"`{given[name]}`" for name in names if name in given]:
            verb = "has" if len(flags) == 1 else "have"
            sentences.append(f"{' and '.join(flags)} {verb} no effect: {reason}")
    return sentences


def _of_the_run(config: RunConfig) -> Iterator[Idle]:
    if config.local:
        yield WORKERS, "with `--local` the one process trains the children one after another"
    if config.metrics.metrics_port is None:
        yield ("metrics_host", "metrics_file_sd"), "no metrics are served without `--metrics-port`"


def _of_the_task(config: RunConfig) -> Iterator[Idle]:
    name, entry, options = config.task.task, config.task.entry, config.task.options
    if entry.family == "table":
        yield (*TRAINING, "epochs", "train_fraction", "max_seconds"), f"the task {name} looks its answers up"
    elif entry.family == "function" and not own_files.is_own(name):
        # Rehearsed faults may be those of a batch that is too large.
        training = [option for option in TRAINING if option != "batch_size" or not config.task.faults]
        yield (*training, "train_fraction"), f"the task {name} trains nothing"
    if config.task.instant:
        yield ("child_timeout", "checkpoint_children"), f"a child of the task {name} takes no time"
    if name in WITHOUT_DATA or (entry.family == "function" and not own_files.is_own(name)):
        yield ("data", "download"), f"the task {name} needs no data"
    elif entry.family in ("table", "language") and not own_files.is_own(name):
        yield ("download",), f"nothing can be downloaded for the task {name}"
    if isinstance(options, LanguageOptions) and options.learning_rate_decay == 1:
        yield ("decay_after",), "the learning rate stays as it is without `--learning-rate-decay`"


def _of_the_space(config: RunConfig) -> Iterator[Idle]:
    space = config.search_space
    if not isinstance(space, ConvolutionalSpace):
        return
    if "pool" not in space.layer_types:
        yield ("pool_sizes", "pool_strides"), "`--layer-types` has no pool"
    if "conv" not in space.layer_types:
        yield ("filter_heights", "filter_widths", "strides", "num_filters"), "`--layer-types` has no conv"
    if not space.depth_step or space.initial_depth == space.max_depth:
        yield ("depth_interval",), f"all networks have {space.initial_depth} layers"


def _of_the_shards(config: RunConfig) -> Iterator[Idle]:
    with suppress(Exception):  # a searcher that cannot be made is reported later
        searcher = config.searcher_entry.build(config.search_space, config.searcher_options)
        if not searcher.parameters(0):
            yield SHARDS, f"the searcher {config.searcher} keeps no parameters on shards"
        if shared_weights_of(searcher) is None:
            yield WEIGHTS, f"the children of the searcher {config.searcher} share no weights"
