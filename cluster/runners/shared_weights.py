"""The weights that a run's children share: their network, and their layout and first values on shards of their own.

PyTorch is imported where there are such weights: a search without any begins a second earlier.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from child_trainer.architectures.architecture import Architecture
from child_trainer.language_options import LanguageOptions
from child_trainer.regime import Regime
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.tasks.catalogue import names_of
from child_trainer.tasks.entry import ImageProblem
from cluster.config.run_config import RunConfig
from cluster.formatting import counted, duration
from cluster.runners.build import make_group
from cluster.search.seeding import derive
from cluster.search.steps import lane_client, rounds_client
from cluster.storage.dataset_cache import local_data
from cluster.storage.errors import RunFolderError
from cluster.storage.run_folder import RunFolder
from controller.searcher import ParameterGroup, Searcher, SharedWeights, shared_weights_of
from ps.errors import StoreError
from ps.store import Group, Layout, Snapshot

if TYPE_CHECKING:
    from child_trainer.supernets.gated_language_model import TextProblem
    from child_trainer.supernets.network import SupernetNetwork
    from ps.local import LocalStore

GROUP = "weights"
"""The name of the group of the shared weights."""

COMMON = "common weights"
"""The name of the group of those that every path reads, where these take their steps together."""


@lru_cache(maxsize=1)
def _network(
    supernet: Architecture, problem: ImageProblem | TextProblem, regime: Regime, generated: HyperOptions | None
) -> SupernetNetwork:
    # Building one takes seconds, and a start needs it several times.
    from child_trainer.supernets.gated_language_model import TextProblem
    from child_trainer.supernets.generated import GeneratedSupernet
    from child_trainer.supernets.language_network import LanguageSupernet
    from child_trainer.supernets.network import SupernetNetwork

    if isinstance(problem, TextProblem):
        return LanguageSupernet(supernet, problem, regime)
    if generated:
        return GeneratedSupernet(supernet, problem, regime, generated)
    return SupernetNetwork(supernet, problem, regime)


@lru_cache(maxsize=4)
def _vocabulary_size(task: str, data: str | Path | None, options: LanguageOptions) -> int:
    # Reading a text takes seconds.
    from child_trainer.tasks.language import vocabulary_of

    return len(vocabulary_of(task, local_data(data), options))


def make_network(config: RunConfig, shared: SharedWeights) -> SupernetNetwork:
    """Return the run's supernet, the same object at each call; only one thread may use it at a time.

    Raises:
        ValueError: the task has neither images nor a text of ours, or the supernet cannot be built for them.
    """
    return _network(shared.supernet, _problem(config, shared), config.budget.regime, shared.generated)


def _problem(config: RunConfig, shared: SharedWeights) -> ImageProblem | TextProblem:
    """Return what the supernet is built for: images, or a vocabulary, for which the training text is read."""
    task, searcher = config.task, repr(config.searcher)
    if task.entry.problem is not None:
        return task.entry.problem
    if task.task not in names_of("language"):
        raise ValueError(
            f"the searcher {searcher} trains one network on images or text, whose paths share weights; the task"
            f" {task.task!r} has none: use another searcher, or a task such as digits"
        )
    if shared.generated or shared.costs is not None:
        what = "generates weights of convolutions" if shared.generated else "counts what each option of a network costs"
        raise ValueError(f"the searcher {searcher} {what}, which is for images: the task {task.task!r} is of text")
    from child_trainer.supernets.gated_language_model import TextProblem

    return TextProblem(_vocabulary_size(task.task, task.data, task.options), task.options)


def make_weights(config: RunConfig, searcher: Searcher) -> ParameterGroup | None:
    """Return the weights that the searcher's children share, if they do, with their first values.

    The values are equal at every start of the run.

    Raises:
        ValueError: see `make_network`.
    """
    shared = shared_weights_of(searcher)
    if shared is None:
        return None
    values = make_network(config, shared).initial(derive(config.seed, GROUP))
    return ParameterGroup(name=GROUP, values=values, optimizer=shared.optimizer, options=shared.options)


def weights_layout(config: RunConfig, run: str, weights: ParameterGroup) -> Layout:
    """Return the layout of the shared weights on their shards.

    In causal order the steps of the weights that every path reads, or of all, wait until a batch of children has ended.

    Args:
        config: the run's.
        run: the identity of the run.
        weights: their first values.

    Raises:
        ValueError: there are more shards than weights, or lanes cannot wait for each other.
    """
    _check_waiting(config)
    topology, elements = config.topology, sum(value.numel() for value in weights.values.values())
    if config.weights.weights_shards > elements:
        shards = config.weights.weights_shards
        raise ValueError(f"`weights_shards` must be at most the number of weights ({elements:,}), got {shards}")
    return Layout(
        run=f"{run}/{GROUP}",
        shards=config.weights.weights_shards,
        consistency=config.weights.store_consistency(
            [lane_client(replica, lane) for replica in range(topology.replicas) for lane in range(topology.children)]
        ),
        groups=_groups(config, weights),
    )


def _groups(config: RunConfig, weights: ParameterGroup) -> tuple[Group, ...]:
    whole = make_group(weights)
    if not config.weights.causal:
        return (whole,)
    deferred = deferred_names(config)
    return tuple(
        replace(
            whole,
            name=name,
            shapes={tensor: whole.shapes[tensor] for tensor in tensors},
            deferred_to=rounds_client(0) if deferred.issuperset(tensors) else None,
        )
        for name, tensors in group_names(config).items()
    )


def deferred_names(config: RunConfig) -> frozenset[str]:
    """Return the names of the shared weights whose steps wait until a batch of children has ended."""
    if not config.weights.causal:
        return frozenset()
    network = _run_network(config)
    return frozenset(network.shapes if config.weights.weights_deferred == "all" else network.common_names())


def group_names(config: RunConfig) -> dict[str, list[str]]:
    """Return the names of the shared weights, in the order of the network, by the group that they are in."""
    deferred, names = deferred_names(config), list(_run_network(config).shapes)
    own = [name for name in names if name not in deferred]
    if not own or len(own) == len(names):
        return {GROUP: names}
    return {GROUP: own, COMMON: [name for name in names if name in deferred]}


def _run_network(config: RunConfig) -> SupernetNetwork:
    shared = shared_weights_of(config.make_searcher())
    assert shared is not None
    return make_network(config, shared)


def _check_waiting(config: RunConfig) -> None:
    """Raise `ValueError` if children that make steps would have to wait for others that have no worker."""
    mode, topology = config.weights.weights_consistency, config.topology
    if not config.weights.waits:
        return
    if config.local:
        raise ValueError(
            f"`weights_consistency` must be async with `--local`, where one child makes its steps after another, got"
            f" {mode}"
        )
    lanes = topology.replicas * topology.children
    if topology.workers is not None and topology.workers < lanes:
        raise ValueError(
            f"`workers` must be at least {lanes} with `weights_consistency` {mode}, one for each child that makes"
            f" steps, got {topology.workers}"
        )


def _check_causal(config: RunConfig, shared: SharedWeights) -> None:
    """Raise `ValueError` if the weights of a run in causal order would depend on time all the same."""
    topology = config.topology
    if not config.weights.causal:
        return
    where = "where `weights_consistency` is causal"
    if topology.replicas > 1:
        raise ValueError(
            f"`replicas` must be 1 {where}, as time decides which of several is first to sample a child, got"
            f" {topology.replicas}"
        )
    if topology.batching != "barrier":
        raise ValueError(
            f"`batching` must be barrier {where}, as steps wait for a batch's end, got {topology.batching}"
        )
    if shared.moves_strengths:
        raise ValueError(
            f"`weights_consistency` must not be causal with the searcher {config.searcher!r}: each of its steps reads"
            " strengths that every other one moves"
        )


def local_weights(config: RunConfig, run: str, directory: Path | None = None) -> LocalStore | None:
    """Return shards in this process with the weights that children share, or `None` if they share none.

    Without a directory everything is in memory.
    """
    weights = make_weights(config, config.make_searcher())
    if weights is None:
        return None
    from ps.local import LocalStore

    store = LocalStore(weights_layout(config, run, weights), directory, config.weights.snapshot_interval_s)
    store.initialize(weights.values)
    return store


def saved_weights(config: RunConfig, folder: RunFolder) -> Snapshot | None:
    """Return the weights that a run's children share as their shards last wrote them; `None` if there are none yet.

    Nothing in the folder is changed.

    Raises:
        RunFolderError: the run's children share no weights, or the files cannot be read.
    """
    weights = make_weights(config, config.make_searcher())
    if weights is None:
        raise RunFolderError(
            f"the children of the run {folder.name!r} share no weights: its searcher {config.searcher!r} trains each"
            " from scratch"
        )
    from ps.shard.saved import saved_values

    try:
        return saved_values(weights_layout(config, folder.identity(config), weights), folder.weights)
    except (StoreError, OSError) as error:
        raise RunFolderError(f"the shared weights in {folder.weights} cannot be read: {error}") from error


def check_weights(config: RunConfig, run: str) -> None:
    """Raise `ValueError` if the weights that children share cannot be made, or not laid out on their shards.

    The same error is raised if the children are to come in causal order and cannot, or if steps are to move parameters
    on shards where the replicas wait for one another: steps come far more often than the replicas' batches, and would
    wait for ever.
    """
    searcher = config.make_searcher()
    shared, topology = shared_weights_of(searcher), config.topology
    if shared:
        _check_causal(config, shared)
    if shared and shared.moves_strengths:
        what = f"where steps move the strengths of {config.searcher!r}"
        if topology.consistency != "async":
            raise ValueError(f"`consistency` must be async {what}, got {topology.consistency}")
        if topology.accumulate > 1:
            raise ValueError(f"`accumulate` must be 1 {what}, got {topology.accumulate}")
    if weights := make_weights(config, searcher):
        weights_layout(config, run, weights)


def loss_bound(config: RunConfig) -> str | None:
    """Return a sentence on what a killed shard of the shared weights loses; `None` if children share none."""
    weights = make_weights(config, config.make_searcher())
    if weights is None:
        return None
    count = sum(value.numel() for value in weights.values.values())
    options = config.weights
    if options.snapshot_interval_s:
        loses = f"the steps since its last snapshot, of up to {duration(options.snapshot_interval_s)}"
    else:
        loses = "no step, as it writes each before it acknowledges it"
    where = counted(options.weights_shards, "shard")
    return f"The children share {count:,} weights on {where}: one that is killed loses {loses} (--weights-snapshot)"
