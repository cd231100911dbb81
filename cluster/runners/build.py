"""Makes the parts of a run from its configuration. What connects them is `local.py` or `distributed.py`."""

import random
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from child_trainer import own_files
from child_trainer.outcome import Outcome
from cluster.config.run_config import RunConfig
from cluster.formatting import first_line
from cluster.search.evaluator import Evaluator
from cluster.search.history import History
from cluster.search.records import ReplicaLedger
from cluster.search.replica import Replica, client
from cluster.search.seeding import derive
from controller.own_parts import check_searcher, check_space
from controller.searcher import ParameterGroup, Searcher, View
from ps.local import LocalStore
from ps.store import Group, Layout, ParameterStore


def make_searcher(config: RunConfig) -> Searcher:
    """The searcher over its space."""
    return config.searcher_entry.build(config.search_space, config.searcher_options)


def make_parameters(config: RunConfig, searcher: Searcher) -> tuple[ParameterGroup, ...]:
    """What the searcher starts from, the same at every start of the run."""
    return searcher.parameters(derive(config.seed, "parameters"))


def make_layout(config: RunConfig, run: str, groups: tuple[ParameterGroup, ...]) -> Layout:
    """How the parameters lie on the shards."""
    return Layout(
        run=run,
        shards=config.topology.shards,
        consistency=config.topology.store_consistency([client(i) for i in range(config.topology.replicas)]),
        groups=tuple(
            Group(
                name=group.name,
                shapes={name: tuple(value.shape) for name, value in group.values.items()},
                optimizer=group.optimizer,
                options=dict(group.options),
                accumulate=config.topology.accumulate,
            )
            for group in groups
        ),
    )


def check_layout(config: RunConfig, run: str) -> None:
    """Raise `ValueError` if the searcher's parameters cannot be laid out on so many shards, or not under this name.

    So it does if they are more than this machine's memory can hold.
    """
    if own_files.is_own(config.space):
        check_space(config.space, config.search_space)
    try:
        searcher = make_searcher(config)
        groups = make_parameters(config, searcher)
    except Exception as error:
        if own_files.is_own(config.searcher):
            raise ValueError(f"{config.searcher} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(error, RuntimeError | TypeError | MemoryError):
            raise

        reason = first_line(str(error)) or type(error).__name__
        raise ValueError(f"the parameters of the searcher cannot be made: use a smaller one ({reason})") from error
    if groups:
        make_layout(config, run, groups)
    if own_files.is_own(config.searcher):
        check_searcher(config.searcher, searcher, _first_view(groups))


def _first_view(groups: tuple[ParameterGroup, ...]) -> View:
    """Return what a searcher sees at the start of a search."""
    return View(parameters=initial_values(groups), completed=0, history=tuple, pending=tuple, rng=random.Random(0))


def initial_values(groups: tuple[ParameterGroup, ...]) -> dict[str, Tensor]:
    """All groups' tensors by name."""
    return {name: value for group in groups for name, value in group.values.items()}


def local_store(
    config: RunConfig, run: str, directory: Path | None = None, *, searcher: Searcher | None = None
) -> LocalStore | None:
    """Shards in this process with what the searcher starts from, or `None` if it keeps nothing on shards.

    Args:
        config: the run's.
        run: the identity of the run, by which the shards know their files.
        directory: where these are; without one everything is in memory.
        searcher: whose parameters, if not the run's own.
    """
    groups = make_parameters(config, searcher or make_searcher(config))
    if not groups:
        return None
    store = LocalStore(make_layout(config, run, groups), directory)
    store.initialize(initial_values(groups))
    return store


def make_reward(config: RunConfig) -> Callable[[Outcome], float | None]:
    """From outcome to reward; `None` for a child that is not to be learnt from."""
    reward, policy = config.reward_entry.compute, config.failures.policy

    def judge(outcome: Outcome) -> float | None:
        return policy.reward(outcome.failure.cause) if outcome.failure else reward(outcome)

    return judge


def make_replica(
    config: RunConfig,
    index: int,
    store: ParameterStore | None,
    evaluator: Evaluator,
    ledger: ReplicaLedger,
    history: History | None = None,
) -> Replica:
    """Make one controller replica with a searcher of its own.

    Args:
        config: the run's.
        index: which replica of the run this is.
        store: where the searcher's parameters live.
        evaluator: what trains the replica's children.
        ledger: the run's record.
        history: that of the ledger, which the replicas of a process share; without one the replica reads its own.
    """
    return Replica(
        index=index,
        children=config.topology.children,
        batching=config.topology.batching,
        seed=config.seed,
        searcher=make_searcher(config),
        reward=make_reward(config),
        store=store,
        evaluator=evaluator,
        ledger=ledger,
        history=history or History(ledger),
    )
