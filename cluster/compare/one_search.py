"""One search of a comparison: the replica loop, ledger, store and evaluator of `--local`, with nothing on disk."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache

from child_trainer.outcome import Outcome
from child_trainer.tasks.lookup_table import Table
from child_trainer.training.task import Task
from cluster.compare.plan import Limit
from cluster.compare.search_result import SearchResult
from cluster.compare.table_front import point
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.runners.build import local_store
from cluster.runners.early_stopping import judge_of
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.local import check_locally, take_turns, within_time
from cluster.runners.trainer import Trainer, loaded_task
from cluster.search.evaluator import Assignment, ChildTrainer
from cluster.storage.ledger.ledger import Clock, Ledger
from cluster.storage.ledger.schema import IN_MEMORY
from controller.searcher import ChildRecord
from controller.space import SearchSpace


class Meter:
    """Wraps a trainer and sums the cost of the children in seconds."""

    def __init__(self, trainer: ChildTrainer) -> None:
        self._trainer = trainer
        self.seconds = 0.0

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        """See `cluster.search.evaluator.ChildTrainer`."""
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
        self.ended: list[ChildRecord] = []

    def finish(self, child_id: int, outcome: Outcome, reward: float | None) -> ChildRecord:
        """See `cluster.search.records.ReplicaLedger.finish`."""
        self.ended.append(super().finish(child_id, outcome, reward))
        return self.ended[-1]


def search(config: RunConfig, limit: Limit, stop_requested: Callable[[], bool]) -> SearchResult | None:
    """Run one search within its budget; return `None` if a stop is requested, which is polled between children.

    Children beyond the budget are not in the result, though the searcher may have learnt from them: other replicas
    still have children in training when the budget ends.
    """
    store = local_store(config, "compared")
    with closing(MemoryLedger(config)) as ledger:
        trainer = make_trainer(config, None if config.task.entry.trains else _shared_task(config.task), ledger)
        meter = Meter(trainer)
        evaluators = [
            InProcessEvaluator(
                meter,
                ledger,
                config.failures.policy,
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
    return None if stop_requested() else make_result(config, children, trainer.task).within(limit)


def make_result(config: RunConfig, children: Sequence[ChildRecord], task: Task) -> SearchResult:
    """Return the result of these children, with the test metrics of a tabular task."""
    judged = [(child, child.outcome) for child in children if child.outcome is not None]
    space: SearchSpace = config.search_space
    costs = config.objectives.costs
    return SearchResult(
        seed=config.seed,
        architectures=tuple(child.architecture_id for child, _ in judged),
        metrics=tuple(outcome.metric for _, outcome in judged),
        rewards=tuple(child.reward or 0.0 for child, _ in judged),
        seconds=tuple(outcome.seconds for _, outcome in judged),
        tests=tuple(
            task.test_metric(space.decode(child.tokens)) if isinstance(task, Table) and not outcome.failure else None
            for child, outcome in judged
        ),
        points=tuple(point(outcome, costs) for _, outcome in judged) if costs else (),
    )


def make_trainer(config: RunConfig, task: Task | None = None, ledger: MemoryLedger | None = None) -> Trainer:
    """Return the trainer of a local run.

    Args:
        config: the run's.
        task: the run's task if it has been loaded already.
        ledger: with the children by whose curves others are stopped early; without one no child is.

    Raises:
        TaskError, StorageError, PlacementError: the task or its data cannot be loaded here.
    """
    judge = ledger and judge_of(config, lambda: ledger.ended)
    return Trainer(within_time(config), gpu=check_locally(config) > 0, task=task, judge=judge)


# A process runs many searches, and reading a table takes longer than most of them. A task without training has no seed.
@lru_cache(maxsize=1)
def _shared_task(options: TaskOptions) -> Task:
    return loaded_task(options)
