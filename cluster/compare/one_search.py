"""One search of a comparison: the replica loop, ledger, store and evaluator of `--local`, with nothing on disk."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache

from child_trainer.outcome import Outcome
from child_trainer.tasks.lookup_table import Table
from child_trainer.tasks.summaries import TASKS
from child_trainer.training.task import Task
from cluster.compare.plan import Limit
from cluster.compare.search_result import SearchResult
from cluster.config.run_config import RunConfig
from cluster.runners.build import local_store
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.local import check_locally, take_turns, within_time
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Assignment, Trains
from cluster.storage.ledger.ledger import Clock, Ledger
from cluster.storage.ledger.schema import IN_MEMORY
from controller.searcher import Child


class Meter:
    """Wraps a trainer and sums the cost of the children in seconds."""

    def __init__(self, trainer: Trains) -> None:
        self._trainer = trainer
        self.seconds = 0.0

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        """See `cluster.search.evaluator.Trains`."""
        outcome = self._trainer.train(assignment, batch_size=batch_size, preempted=preempted)
        self.seconds += outcome.seconds
        return outcome


class MemoryLedger(Ledger):
    """An in-memory ledger that also keeps the ended children as objects, which are slow to read back.

    Attributes:
        ended: the children, in the order in which they ended.
    """

    def __init__(self, config: RunConfig, clock: Clock = time.time) -> None:
        super().__init__(IN_MEMORY, config.seed, config.max_children, clock)
        self.ended: list[Child] = []

    def finish(self, child_id: int, outcome: Outcome, reward: float | None) -> Child:
        """See `cluster.search.records.ReplicaLedger.finish`."""
        self.ended.append(super().finish(child_id, outcome, reward))
        return self.ended[-1]


def search(config: RunConfig, limit: Limit, stop_requested: Callable[[], bool]) -> SearchResult | None:
    """Run one search within its budget; return `None` if a stop is requested, which is polled between children.

    Children beyond the budget are not in the result, though the searcher may have learnt from them: other replicas
    still have children in training when the budget ends.
    """
    trainer = _shared(_without_seed(config)) if not TASKS[config.task.task].trains else make_trainer(config)
    meter = Meter(trainer)
    store = local_store(config, "compared")
    with closing(MemoryLedger(config)) as ledger:
        evaluators = [
            InProcessEvaluator(
                meter,
                ledger,
                config.failures.reactions,
                batch_size=config.budget.batch_size,
                preempted=None if config.task.instant else stop_requested,
                at_once=config.task.instant,
            )
            for _ in range(config.topology.replicas)
        ]

        def over() -> bool:
            return stop_requested() or (limit.seconds is not None and meter.seconds >= limit.seconds)

        take_turns(config, store, evaluators, ledger, over)
        children = [child for child in ledger.ended if child.reward is not None]
    return None if stop_requested() else make_result(config.seed, children, trainer.task).within(limit)


def make_result(seed: int, children: Sequence[Child], task: Task) -> SearchResult:
    """Return the result of these children, with the test metrics of a tabular task."""
    ended = [(child.proposal.architecture, child.outcome, child.reward) for child in children]
    judged = [(architecture, outcome, reward) for architecture, outcome, reward in ended if outcome is not None]
    return SearchResult(
        seed=seed,
        architectures=tuple(architecture.id for architecture, _, _ in judged),
        metrics=tuple(outcome.metric for _, outcome, _ in judged),
        rewards=tuple(reward or 0.0 for _, _, reward in judged),
        seconds=tuple(outcome.seconds for _, outcome, _ in judged),
        tests=tuple(
            task.test_metric(architecture) if isinstance(task, Table) and not outcome.failure else None
            for architecture, outcome, _ in judged
        ),
    )


def make_trainer(config: RunConfig) -> Trainer:
    """Make the trainer of a local run.

    Raises:
        TaskError, StorageError, PlacementError: the task or its data cannot be loaded here.
    """
    return Trainer(within_time(config), gpu=check_locally(config))


# A process runs many searches, and reading a table takes longer than most of them.
@lru_cache(maxsize=1)
def _shared(config: RunConfig) -> Trainer:
    return make_trainer(config)


def _without_seed(config: RunConfig) -> RunConfig:
    """Return the settings on which a trainer without training depends: all but the seed and the searcher."""
    return RunConfig(
        task=config.task,
        budget=config.budget,
        failures=config.failures,
        space=config.space,
        reward=config.reward,
        space_options=config.space_options,
    )
