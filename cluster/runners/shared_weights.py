"""The weights that a run's children share: their network, and their layout and first values on shards of their own."""

from functools import lru_cache
from pathlib import Path

from child_trainer.architectures.architecture import Architecture
from child_trainer.regime import Regime
from child_trainer.supernets.generated import GeneratedSupernet
from child_trainer.supernets.hyper_options import HyperOptions
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.tasks.entry import ImageProblem
from cluster.config.run_config import RunConfig
from cluster.formatting import counted, duration
from cluster.runners.build import make_group, make_searcher
from cluster.search.seeding import derive
from cluster.search.steps import lane_client
from cluster.storage.errors import RunFolderError
from cluster.storage.run_folder import RunFolder
from controller.searcher import ParameterGroup, Searcher, SharedWeights, shared_weights_of
from ps.errors import StoreError
from ps.local import LocalStore
from ps.shard.saved import saved_values
from ps.store import Layout, Snapshot

GROUP = "weights"
"""The name of the group of all shared weights."""


@lru_cache(maxsize=1)
def _network(
    supernet: Architecture, problem: ImageProblem, regime: Regime, generated: HyperOptions | None
) -> SupernetNetwork:
    # Building one takes seconds, and a start needs it several times.
    if generated:
        return GeneratedSupernet(supernet, problem, regime, generated)
    return SupernetNetwork(supernet, problem, regime)


def make_network(config: RunConfig, shared: SharedWeights) -> SupernetNetwork:
    """Return the run's supernet, the same object at each call; only one thread may use it at a time.

    Raises:
        ValueError: the task has no images, or the supernet cannot be built for them.
    """
    problem = config.task.entry.problem
    if problem is None:
        raise ValueError(
            f"the searcher {config.searcher!r} trains one network on images, whose paths share weights; the task"
            f" {config.task.task!r} has none: use another searcher, or a task such as digits"
        )
    return _network(shared.supernet, problem, config.budget.regime, shared.generated)


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
        groups=(make_group(weights),),
    )


def _check_waiting(config: RunConfig) -> None:
    """Raise `ValueError` if children that make steps would have to wait for others that have no worker."""
    mode, topology = config.weights.weights_consistency, config.topology
    if mode == "async":
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


def local_weights(config: RunConfig, run: str, directory: Path | None = None) -> LocalStore | None:
    """Return shards in this process with the weights that children share, or `None` if they share none.

    Without a directory everything is in memory.
    """
    weights = make_weights(config, make_searcher(config))
    if weights is None:
        return None
    store = LocalStore(weights_layout(config, run, weights), directory, config.weights.snapshot_interval_s)
    store.initialize(weights.values)
    return store


def saved_weights(config: RunConfig, folder: RunFolder) -> Snapshot | None:
    """Return the weights that a run's children share as their shards last wrote them; `None` if there are none yet.

    Nothing in the folder is changed.

    Raises:
        RunFolderError: the run's children share no weights, or the files cannot be read.
    """
    weights = make_weights(config, make_searcher(config))
    if weights is None:
        raise RunFolderError(
            f"the children of the run {folder.name!r} share no weights: its searcher {config.searcher!r} trains each"
            " from scratch"
        )
    try:
        return saved_values(weights_layout(config, folder.identity(config), weights), folder.weights)
    except (StoreError, OSError) as error:
        raise RunFolderError(f"the shared weights in {folder.weights} cannot be read: {error}") from error


def check_weights(config: RunConfig, run: str) -> None:
    """Raise `ValueError` if the weights that children share cannot be made, or not laid out on their shards.

    The same error is raised if steps are to move parameters on shards where the replicas wait for one another: steps
    come far more often than the replicas' batches, and would wait for ever.
    """
    searcher = make_searcher(config)
    shared, topology = shared_weights_of(searcher), config.topology
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
    weights = make_weights(config, make_searcher(config))
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
