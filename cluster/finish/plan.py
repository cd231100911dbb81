"""Plans what comes after a search: which networks are trained for good, how, and what is tried before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from child_trainer.architectures.architecture import Architecture
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget, Measure
from cluster.config.flags import UsageError, parse_run, value_of
from cluster.config.recipes import changed
from cluster.config.run_config import RunConfig
from cluster.config.topology import MAX_PARTS, Topology
from cluster.finish.checks import check_effects, check_operations, check_settings, check_task
from cluster.finish.judges import has_text
from cluster.formatting import counted
from cluster.runners.retraining import SEARCHER, TOP, Source, retraining
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import existing_run
from cluster.storage.ledger.queries.candidates import Candidate, candidates
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.decisions import num_samples
from controller.reward import REWARDS
from controller.searchers.grid import GridOptions
from controller.space import SearchSpace
from controller.spaces.listed import text_of
from controller.spaces.settings import SettingsSpace

FINAL, GRID = "-final", "-grid"
"""What the names of the two runs have behind that of the search."""

LONGER = 5
"""How many times the epochs of the search a network is trained for good, unless the command says another number."""

FIXED = (
    "name",
    "storage_path",
    "searcher",
    "searcher_options",
    "space",
    "max_children",
    "reward",
    "task",
    "start_with",
)
"""Fields that follow from the search, and that no flag may change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        name: the search.
        storage_path: the folder of all runs, or its URL.
        top: how many of its best architectures; `None`: `TOP`, or all if it has fewer.
        grid: the settings that are tried, each as NAME=VALUE,VALUE; none: no grid search.
        seeds: trainings of each network.
        flags: of `nascluster launch`, for the trainings.

    Raises:
        UsageError: a number or a setting is impossible.
    """

    name: str
    storage_path: str
    top: int | None
    grid: tuple[str, ...]
    seeds: int
    flags: Sequence[str]

    def __post_init__(self) -> None:
        for name, number in (("top", self.top), ("seeds", self.seeds)):
            if number is not None and number < 1:
                raise UsageError(f"`--{name}` must be at least 1, got {number}")
        try:
            SettingsSpace(settings=self.grid)
        except ValueError as error:
            raise UsageError(f"`--grid`: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """An architecture that is to be trained for good.

    Attributes:
        architecture: the network, with the settings that the grid search has chosen as its hyperparameters.
        child_id: the child of the search.
        searched: its metric there.
        scored: whether that is a score with shared weights, and not of a training.
        settings: what the grid search has chosen.
        validation: the metric of that training; `None` without a grid search.
    """

    architecture: Architecture
    child_id: int
    searched: float
    scored: bool
    settings: Mapping[str, float] = field(default_factory=dict)
    validation: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        search: the folder of the search.
        base: how each network is trained.
        networks: the best ones of the search, the best first; if a stage has begun, those that it began with.
        by_metric: whether the search had no other aim than the validation metric, by which networks are ordered;
            else the order of the search stays.
        grid: the run of the grid search; `None` without one.
        seeds: trainings of each network.
        notes: sentences that the user should read.
    """

    search: RunFolder
    base: RunConfig
    networks: tuple[Network, ...]
    by_metric: bool
    grid: RunConfig | None
    seeds: int
    notes: tuple[str, ...]

    def final(self, networks: Sequence[Network]) -> RunConfig:
        """Return the run that trains these networks on all training data, and keeps their weights.

        Of images that is the validation images, too. A validation text stays apart, as in the papers on language
        models, and final models are compared by it.
        """
        return _trainings(
            self.base,
            f"{self.search.name}{FINAL}",
            SettingsSpace(architectures=_texts(networks), settings=(), seeds=self.seeds),
            keep_weights=True,
        )


def make_plan(request: Request, search: RunFolder) -> Plan:
    """Return what is to be done; nothing is written.

    Args:
        request: what is asked.
        search: the folder of the search, which must not be running.

    Raises:
        UsageError: a flag is unknown, impossible, or changes what must stay.
        RunFolderError: the search has no such networks, or they cannot be trained for good.
        ValueError: a value is invalid.
    """
    config = search.read_config()
    check_task(config)
    if value_of(request.flags, "--early-stop") is not None:
        raise UsageError(
            "`early-stop` is for searches, and `finish` trains each network to its last epoch: leave it out"
        )
    default = _default(config, request, search.name)
    made = parse_run(default, list(request.flags), "RECIPE")
    if wrong := [name for name in changed(default, _with_same_models(default, made)) if name in FIXED]:
        raise UsageError(
            f"`{wrong[0].replace('_', '-')}` of the final trainings follows from the run {search.name!r}: leave it out"
        )
    check_settings(request.grid, made)
    with reading(search) as db:
        found = candidates(db)
    top = request.top or min(TOP, len(found)) or TOP
    given, notes = retraining(made, request.flags, Source(search.name, top), search)
    space = given.search_space
    networks = tuple(_network(space, candidate) for candidate in found[:top])
    if others := _begun_with(request, space, found, networks):
        networks = others
        notes = [*notes, f"the run {search.name!r} has changed since: the networks stay those that were begun with"]
    architectures = [network.architecture for network in networks]
    check_operations(architectures, config)
    check_effects(request.grid, made, architectures)
    grid = None
    if request.grid:
        space = SettingsSpace(architectures=_texts(networks), settings=request.grid)
        grid = _trainings(made, f"{search.name}{GRID}", space, keep_weights=False)
    return Plan(
        search=search,
        base=made,
        networks=networks,
        by_metric=config.reward in REWARDS and not config.objectives.objective,
        grid=grid,
        seeds=request.seeds,
        notes=(*notes, _regime_note(config.budget, made.budget)),
    )


def _network(space: SearchSpace, candidate: Candidate) -> Network:
    return Network(
        architecture=space.decode(candidate.tokens),
        child_id=candidate.child_id,
        searched=candidate.metric,
        scored=candidate.scored,
    )


def _begun_with(
    request: Request, space: SearchSpace, found: Sequence[Candidate], best: Sequence[Network]
) -> tuple[Network, ...]:
    """Return the networks with which the first stage has begun, if these are not the best ones any more.

    Args:
        request: what is asked.
        space: the networks' space, as they are trained for good.
        found: all of the search, the best first.
        best: those that a stage would begin with now.

    Returns:
        The networks in the stage's order; none if it has not begun, or the search has not all of them.
    """
    try:
        begun = existing_run(request.storage_path, f"{request.name}{GRID if request.grid else FINAL}").read_config()
    except RunFolderError:
        return ()
    options = begun.space_options
    if not isinstance(options, SettingsSpace) or options.architectures == _texts(best):
        return ()
    if request.top not in (None, len(options.architectures)):
        return ()
    missing, there = set(options.architectures), dict[str, Network]()
    for candidate in found:
        if not missing:
            break
        network = _network(space, candidate)
        text = text_of(network.architecture)
        if text in missing:
            missing.remove(text)
            there[text] = network
    return () if missing else tuple(there[text] for text in options.architectures)


def _with_same_models(default: RunConfig, made: RunConfig) -> RunConfig:
    """Return a run with the language models of another, but for their vocabulary: the final ones may be larger."""
    ours, theirs = default.task.options, made.task.options
    if not isinstance(ours, LanguageOptions) or not isinstance(theirs, LanguageOptions):
        return made
    return replace(made, task=replace(made.task, options=replace(ours, max_vocabulary=theirs.max_vocabulary)))


def _default(config: RunConfig, request: Request, name: str) -> RunConfig:
    """Return how a network of the search is trained for good, unless flags say otherwise.

    Nothing else of the search is taken over: its ceilings, its time limits and how its children were compared were for
    shorter trainings.
    """
    budget, topology = config.budget, config.topology
    regime, options = budget.regime, config.task.options
    falls = isinstance(options, LanguageOptions) and options.learning_rate_decay < 1
    if regime.schedule == "constant" and not falls:
        regime = replace(regime, schedule="cosine")
    return RunConfig(
        name=f"{name}{FINAL}",
        storage_path=request.storage_path,
        seed=config.seed,
        local=config.local,
        searcher=SEARCHER,
        space=config.space,
        space_options=config.space_options,
        reward="perplexity" if config.measure is Measure.PERPLEXITY else "accuracy",
        task=config.task,
        budget=replace(budget, epochs=LONGER * budget.epochs, train_fraction=1.0, max_seconds=None, regime=regime),
        topology=Topology(
            replicas=1,
            shards=1,
            batching="stream",
            workers=topology.workers,
            gpus_per_child=topology.gpus_per_child,
            threads_per_child=topology.threads_per_child,
            fuse_seeds=topology.fuse_seeds,
        ),
        failures=replace(config.failures, child_timeout=None, checkpoint_children=True),
        logs=config.logs,
        recipe=config.recipe,
        files=config.files,
    )


def _trainings(base: RunConfig, name: str, space: SettingsSpace, *, keep_weights: bool) -> RunConfig:
    """Return the run that trains every sample of the space once; if weights are kept, also on validation images."""
    count = num_samples(space.decisions(0))
    return replace(
        base,
        name=name,
        searcher="grid",
        searcher_options=GridOptions(keep_weights=keep_weights),
        space="settings",
        space_options=space,
        max_children=count,
        topology=replace(base.topology, children=min(count, MAX_PARTS)),
        task=replace(base.task, all_training=keep_weights and not has_text(base.task)),
    )


def _texts(networks: Sequence[Network]) -> tuple[str, ...]:
    return tuple(text_of(network.architecture) for network in networks)


def _regime_note(searched: Budget, final: Budget) -> str:
    """Return how long and how networks are trained for good."""
    return (
        f"networks are trained for {counted(final.epochs, 'epoch')} (the search: {searched.epochs}) with the schedule"
        f" {final.regime.schedule}; --epochs, --schedule and the other flags of `nascluster launch` change how"
    )
