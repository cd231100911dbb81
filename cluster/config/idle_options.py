"""Options that were given and have no effect in the run that they are given for."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields

from child_trainer import own_files
from child_trainer.language_options import LanguageOptions
from child_trainer.regime import Regime
from child_trainer.seed_agem.options import SubnetworkOptions
from cluster.config.flags import flag_groups, flag_of
from cluster.config.run_config import RunConfig
from controller.decisions import Subset
from controller.searcher import shared_weights_of
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.neat.options import NeatOptions
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.searchers.q_learning.options import QLearningOptions
from controller.searchers.seed_agem.options import SeedAgemOptions
from controller.searchers.transformations.options import EasOptions, PathEasOptions
from controller.searchers.weight_sharing.gradient_options import DartsOptions, ProxylessOptions, SnasOptions
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.searchers.weight_sharing.path_options import EnasOptions
from controller.space import HasStates
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.genomes import GenomeSpace
from controller.spaces.plain import PlainSpace
from controller.spaces.tree_cells import TreeCellSpace
from controller.stopping.options import StoppingOptions

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
    "weights_deferred",
    "weights_staleness_bound",
    "weights_on_stale",
    "weights_max_staleness",
)
"""Options of the weights that children share."""

TRAINING = (
    *("batch_size", "learning_rate", "weight_decay", "momentum", "threads_per_child", "fuse_seeds"),
    *(field.name for field in fields(Regime)),
)
"""Options of training a network."""

FROM_SCRATCH = (
    *("epochs", "learning_rate", "weight_decay", "momentum"),
    *(f.name for f in fields(Regime) if f.name not in ("norm_epsilon", "norm_momentum", "initial")),
)
"""Options of training a network from scratch that training shared weights has not."""

OPTIMIZERS_WITH: Mapping[str, tuple[str, ...]] = {
    "momentum": ("sgd", "rmsprop"),
    "adam_betas": ("adam",),
    "rmsprop_decay": ("rmsprop",),
    "optimizer_epsilon": ("adam", "rmsprop"),
}
"""The optimizers that have an option."""

SCHEDULES_WITH: Mapping[str, tuple[str, ...]] = {
    "decay_at": ("steps",),
    "decay_every": ("exponential",),
    "decay": ("steps", "exponential"),
}
"""The schedules that have an option."""

WITHOUT_DATA = ("digits", "digits-subnetworks", "text")
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
    idle = [
        *_of_the_run(config),
        *_of_the_stopping(config),
        *_of_the_task(config),
        *_of_the_space(config),
        *_of_the_searcher(config),
    ]
    if config.task.entry.trains:
        idle += _of_the_regime(config)
    if not given.keys().isdisjoint((*SHARDS, *WEIGHTS, *FROM_SCRATCH)):
        idle += _of_the_shards(config)
    for names, reason in idle:
        if flags := [f"`{given[name]}`" for name in names if name in given]:
            verb = "has" if len(flags) == 1 else "have"
            sentences.append(f"{' and '.join(flags)} {verb} no effect: {reason}")
    return sentences


def _of_the_run(config: RunConfig) -> Iterator[Idle]:
    if config.local:
        yield WORKERS, "with `--local` the one process trains the children one after another"
    if config.task.entry.family == "language":
        yield ("fuse_seeds",), f"the task {config.task.task} trains its networks one by one"
    if not config.objectives.target:
        yield ("target_weights",), "without `--target` no cost is a factor of the reward"
    if config.ceilings.max_cost is None:
        yield ("cost_per_gpu_hour",), "without `--max-cost` no cost is counted"
    if config.metrics.metrics_port is None:
        yield ("metrics_host", "metrics_file_sd"), "no metrics are served without `--metrics-port`"


def _of_the_stopping(config: RunConfig) -> Iterator[Idle]:
    rule = config.stopping.early_stop
    if rule is None:
        names = (f.name for f in fields(StoppingOptions) if f.name != "early_stop")
        yield tuple(names), "without `--early-stop` every child is trained to its last epoch"
        return
    yield ("fuse_seeds",), f"with `--early-stop {rule}` every child is trained alone, and may be stopped alone"
    if rule != "curve":
        yield ("stop_delta",), f"`--early-stop {rule}` predicts nothing"
    if rule != "halving":
        yield ("halving_factor", "halving_brackets"), f"`--early-stop {rule}` has no rungs"


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
    if isinstance(options, SubnetworkOptions):
        yield from _of_subnetworks(options)
    if isinstance(options, LanguageOptions) and options.learning_rate_decay == 1:
        yield ("decay_after",), "the learning rate stays as it is without `--learning-rate-decay`"


def _of_the_space(config: RunConfig) -> Iterator[Idle]:
    space = config.search_space
    if not isinstance(space, ConvolutionalSpace):
        return
    if "pool" not in space.layer_types:
        yield ("pool_sizes", "pool_strides"), "`--layer-types` has no pool"
    if "conv" not in space.layer_types:
        yield (
            ("filter_heights", "filter_widths", "strides", "num_filters", "activations"),
            "`--layer-types` has no conv",
        )
    if not space.depth_step or space.initial_depth == space.max_depth:
        yield ("depth_interval",), f"all networks have {space.initial_depth} layers"


def _of_evolution(options: EvolutionOptions) -> Iterator[Idle]:
    if not options.crossover:
        yield ("crossover_kind",), "without `--crossover` no child has two parents"
    if options.tournament_share is not None:
        yield ("tournament",), "`--tournament-share` takes its place"
    if options.selection == "roulette" and options.dies != "worst":
        yield ("tournament", "tournament_share"), "`--selection` roulette has no tournaments"
    if options.repeats == "refused":
        yield ("unchanged",), "with `--repeats` refused every child is new"


def _of_enas(config: RunConfig, options: EnasOptions) -> Iterator[Idle]:
    if not options.favoured_operations:
        yield ("favoured_init", "favoured_bonus"), "no operation is favoured without `--favoured-operations`"
    if not any(isinstance(decision, Subset) for decision in config.search_space.decisions(0)):
        yield ("skip_weight", "skip_rate", "enas_compat"), f"the space {config.space} has no skips"
    if options.search_epochs <= options.restart_epochs:
        yield ("restart_factor",), "the search ends with its first cycle of `--restart-epochs`"


def _of_proxyless(options: ProxylessOptions) -> Iterator[Idle]:
    of_loss = ("cost_loss", "cost_weight", "cost_scale", "cost_power")
    if options.cost == "none":
        yield (*of_loss, "cost_reference"), "without `--cost` nothing counts besides the error"
    elif options.mode == "reinforce":
        yield of_loss, "with `--mode reinforce` the cost is in the reward"
    elif options.cost_loss == "mul#log":
        yield ("cost_weight",), "`--cost-loss` mul#log is a product"
    else:
        yield ("cost_scale", "cost_power"), f"`--cost-loss` {options.cost_loss} is a sum"
        if options.cost_loss == "add":
            yield ("cost_reference",), "`--cost-loss` add has no reference"
    if options.mode != "reinforce":
        yield ("paths_per_step",), f"with `--mode {options.mode}` no paths are scored for a step"


def _of_seed_agem(options: SeedAgemOptions) -> Iterator[Idle]:
    if options.selection != "soft-soft-max":
        yield ("lead_penalty",), f"with `--selection {options.selection}` no leader loses a share of its lead"
    if options.selection_reward != "log-odds":
        yield ("odds_clip",), "without `--selection-reward log-odds` there are no odds"


def _of_subnetworks(options: SubnetworkOptions) -> Iterator[Idle]:
    if not options.share:
        yield ("share_epochs",), "with `--no-share` nothing becomes shared"
    if options.mode_rule == "formula":
        yield ("accuracy_threshold", "agreement_threshold"), "`--mode-rule formula` has no thresholds"
    else:
        yield ("mode_weights",), "without `--mode-rule formula` they change no mode"


def _of_shared_weights(config: RunConfig) -> Iterator[Idle]:
    match config.searcher_options:
        case EnasOptions() as options:
            yield from _of_enas(config, options)
        case DartsOptions(strengths_objective="validation"):
            yield ("validation_weight",), "without `--strengths-objective weighted` the validation loss stands alone"
        case ProxylessOptions() as options:
            yield from _of_proxyless(options)
        case SnasOptions(cost="none"):
            yield ("cost_weight",), "without `--cost` nothing counts besides the error"
        case OneShotOptions(trains="one-path"):
            yield ("path_dropout", "ghost_groups"), "with `--trains one-path` a step has one path and one batch"
        case _:
            return


def _of_eas(config: RunConfig, options: EasOptions) -> Iterator[Idle]:
    # Transitions of a DenseNet become wider with the number of its layers, too.
    if not options.wider_steps and isinstance(config.search_space, PlainSpace):
        yield ("wider_noise",), "no layer becomes wider with `--wider-steps 0`"
    if not options.deeper_steps:
        yield ("deeper_noise",), "no layer is inserted with `--deeper-steps 0`"


def _of_path_eas(config: RunConfig) -> Iterator[Idle]:
    space = config.search_space
    if isinstance(space, TreeCellSpace) and not any("conv" in name or "sep" in name for name in space.operations):
        yield ("operation_noise",), "no edge becomes a convolution with these `--operations`"


def _of_the_searcher(config: RunConfig) -> Iterator[Idle]:
    match config.searcher_options:
        case EvolutionOptions() as options:
            yield from _of_evolution(options)
        case ReinforceOptions(queue_size=0):
            yield ("queue_weight",), "there is no queue without `--queue-size`"
        case QLearningOptions() if isinstance(config.search_space, HasStates):
            yield ("state_tokens",), f"the space {config.space} has states of its own"
        case NeatOptions() if isinstance(config.search_space, GenomeSpace) and not config.search_space.recurrent:
            yield ("recurrent_link",), "the space has no recurrent networks without `--recurrent`"
        case EasOptions() as options:
            yield from _of_eas(config, options)
        case PathEasOptions():
            yield from _of_path_eas(config)
        case SeedAgemOptions() as options:
            yield from _of_seed_agem(options)
        case _:
            yield from _of_shared_weights(config)


def _of_the_regime(config: RunConfig) -> Iterator[Idle]:
    regime, space = config.budget.regime, config.search_space
    yield (
        [name for name, optimizers in OPTIMIZERS_WITH.items() if regime.optimizer not in optimizers],
        f"the optimizer is {regime.optimizer}",
    )
    yield (
        [name for name, schedules in SCHEDULES_WITH.items() if regime.schedule not in schedules],
        f"the schedule is {regime.schedule}",
    )
    if regime.restart_below is None:
        yield ("restart_decay", "restarts"), "no training begins again without `--restart-below`"
    if own_files.is_own(config.space):
        return
    parts = (("path_keep", "paths to drop", "drop_path"), ("auxiliary_weight", "auxiliary head", "auxiliary"))
    for name, part, option in parts:
        if not getattr(space, option, False):
            without = f" without `--{option.replace('_', '-')}`" if hasattr(space, option) else ""
            yield (name,), f"the networks of the space {config.space} have no {part}{without}"


def _of_the_shards(config: RunConfig) -> Iterator[Idle]:
    with suppress(Exception):  # a searcher that cannot be made is reported later
        searcher = config.make_searcher()
        shared = shared_weights_of(searcher)
        if not searcher.parameters(0):
            weights = " but the weights that its children share, whose options begin with `--weights-`" * bool(shared)
            yield SHARDS, f"the searcher {config.searcher} keeps no parameters on shards{weights}"
        if shared is None:
            yield WEIGHTS, f"the children of the searcher {config.searcher} share no weights"
        else:
            yield (
                FROM_SCRATCH,
                f"the children of the searcher {config.searcher} train the weights that they share, by options of its"
                " own; it is for trainings from scratch after the search",
            )
