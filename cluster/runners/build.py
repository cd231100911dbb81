"""Makes the parts of a run from its configuration. `local.py` and `on_ray/topology.py` connect them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from child_trainer import own_files
from child_trainer.outcome import Outcome
from cluster.config.run_config import RunConfig
from cluster.formatting import first_line
from cluster.search.evaluator import Evaluator
from cluster.search.history import History
from cluster.search.records import ReplicaLedger
from cluster.search.replica import Replica, client
from cluster.search.seeding import derive
from controller.objectives import product
from controller.own_parts import check_reward, check_searcher
from controller.own_spaces import check_space
from controller.reward import FAILED
from controller.searcher import ParameterGroup, Searcher, View, is_exclusive, keeps_weights, shared_weights_of
from ps.store import Group, Layout, ParameterStore

if TYPE_CHECKING:
    from torch import Tensor

    from ps.local import LocalStore


def make_parameters(config: RunConfig, searcher: Searcher) -> tuple[ParameterGroup, ...]:
    """Return the searcher's initial parameters, equal at every start of the run."""
    return searcher.parameters(derive(config.seed, "parameters"))


def make_layout(config: RunConfig, run: str, groups: tuple[ParameterGroup, ...]) -> Layout:
    """Return the layout of the parameters on the shards."""
    return Layout(
        run=run,
        shards=config.topology.shards,
        consistency=config.topology.store_consistency([client(i) for i in range(config.topology.replicas)]),
        groups=tuple(make_group(group, config.topology.accumulate) for group in groups),
    )


def make_group(group: ParameterGroup, accumulate: int = 1) -> Group:
    """Return the layout of one group of parameters."""
    return Group(
        name=group.name,
        shapes={name: tuple(value.shape) for name, value in group.values.items()},
        optimizer=group.optimizer,
        options=dict(group.options),
        accumulate=accumulate,
    )


def check_layout(config: RunConfig, run: str) -> None:
    """Raise `ValueError` if the searcher's parameters cannot be laid out on the shards under this run's name.

    The same error is raised if this machine's memory cannot hold them, and if children that share weights were to be
    stopped early.
    """
    if own_files.is_own(config.space):
        check_space(config.space, config.search_space)
    searcher, groups = _make_parts(config)
    if config.stopping.early_stop is not None and shared_weights_of(searcher) is not None:
        raise ValueError(
            f"`early_stop` is for children that are trained on their own, and those of the searcher {config.searcher!r}"
            " share weights: leave it out"
        )
    if keeps_weights(searcher) and not is_exclusive(searcher):
        raise ValueError(
            f"the searcher {config.searcher} must have `exclusive = True`, as it has a method `keeps`: of two replicas"
            " that ask from one view, one may remove the weights that the other's children begin with"
        )
    if groups:
        make_layout(config, run, groups)
    if own_files.is_own(config.searcher):
        check_searcher(config.searcher, searcher, first_view(groups))
    if own_files.is_own(config.reward):
        check_reward(config.reward_entry, config.measure)


def _make_parts(config: RunConfig) -> tuple[Searcher, tuple[ParameterGroup, ...]]:
    """Return a new searcher with its initial parameters; raises as `check_layout`."""
    try:
        searcher = config.make_searcher()
        return searcher, make_parameters(config, searcher)
    except own_files.OwnFileError:
        raise
    except (Exception, SystemExit) as error:
        reason = first_line(str(error)) or type(error).__name__
        if own_files.is_own(config.searcher):
            raise ValueError(f"{config.searcher} cannot be made: {type(error).__name__}: {reason}") from error
        if isinstance(error, RuntimeError | TypeError | MemoryError):  # PyTorch's errors for a size that is too large
            raise ValueError(f"the parameters of the searcher cannot be made: use a smaller one ({reason})") from error
        raise


def first_view(groups: tuple[ParameterGroup, ...]) -> View:
    """Return what a searcher sees at the start of a search."""
    return View(parameters=initial_values(groups), completed=0, history=tuple, pending=tuple, rng=random.Random(0))


def initial_values(groups: tuple[ParameterGroup, ...]) -> dict[str, Tensor]:
    """Return all groups' tensors by name."""
    return {name: value for group in groups for name, value in group.values.items()}


def local_store(
    config: RunConfig, run: str, directory: Path | None = None, *, searcher: Searcher | None = None
) -> LocalStore | None:
    """Return shards in this process with the initial parameters, or `None` if the searcher has none.

    Args:
        config: the run's.
        run: the identity of the run, by which the shards recognise their files.
        directory: of these files; without one everything is in memory.
        searcher: the owner of the parameters; by default a new searcher of the run.
    """
    groups = make_parameters(config, searcher or config.make_searcher())
    if not groups:
        return None  # and PyTorch is not imported
    from ps.local import LocalStore

    store = LocalStore(make_layout(config, run, groups), directory)
    store.initialize(initial_values(groups))
    return store


def make_reward(config: RunConfig) -> Callable[[Outcome], float | None]:
    """Return the function from outcome to reward, `None` for a child to be ignored in learning."""
    reward, policy, targets = config.reward_entry.compute, config.failures.policy, config.objectives.targets

    def judge(outcome: Outcome) -> float | None:
        if outcome.failure:
            return policy.reward(outcome.failure.cause)
        # A child of which a cost is unknown, as one that only trains shared weights, earns what a failed one does.
        found = product(reward(outcome), outcome, targets)
        return FAILED if found is None else found

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
        index: the replica's index in the run.
        store: holds the searcher's parameters.
        evaluator: trains the replica's children.
        ledger: the run's record.
        history: the ledger's, shared by the replicas of a process; without one the replica reads it separately.
    """
    return Replica(
        index=index,
        children=config.topology.children,
        batching=config.topology.batching,
        seed=config.seed,
        searcher=config.make_searcher(),
        reward=make_reward(config),
        store=store,
        evaluator=evaluator,
        ledger=ledger,
        history=history or History(ledger),
        records_origins=config.logs.replay_log,
    )
