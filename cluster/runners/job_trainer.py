"""Does jobs on the weights that children share, in a worker: steps of training, and scores of paths."""

import math
import time
from collections.abc import Callable
from typing import Any, cast

import torch

from child_trainer.outcome import Cause, Failure, Outcome
from child_trainer.seeding import derive
from child_trainer.supernets.cost import parameters
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.objectives.objective import Costs
from child_trainer.supernets.option_costs import MEASURES, option_costs
from child_trainer.tasks.image import ImageTask
from child_trainer.threads import computing_with
from child_trainer.training.task import Diverged, OverTime, Preempted, Task
from child_trainer.training.train import failure_of
from cluster.config.run_config import RunConfig
from cluster.runners.metered_store import MeteredStore
from cluster.runners.objective_steps import ObjectiveSteps, moved, path_gates
from cluster.runners.shared_data import DrawnBatches, data_of
from cluster.runners.shared_weights import group_names, make_network
from cluster.search.evaluator import Assignment
from cluster.search.steps import Stores, make_steps
from controller.searcher import SharedWeights, shared_weights_of
from controller.space import HasSupernet
from ps.errors import NonFinite, StoreError
from ps.store import ParameterStore

PAUSE_S = 0.1
"""Seconds between two pulls of a lane that must wait for others."""


class JobTrainer:
    """Does the jobs of one run in this process.

    Args:
        config: the run's.
        task: the run's, with images or text.
        store: the shards of the shared weights.
        policy: the shards of the searcher's parameters, if it has strengths.
        device: where to compute, as PyTorch names it.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        store: ParameterStore,
        policy: ParameterStore | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        shared = shared_weights_of(config.make_searcher())
        assert shared is not None
        self._space = cast(HasSupernet, config.search_space)
        self._network, self._groups = make_network(config, shared), tuple(group_names(config))
        self._budget, self._threads = config.budget, config.topology.threads_per_child
        self._task, self._weights, self._policy, self._device = task, store, policy, device
        self._costs = _costs(config, shared, task)
        self._data = data_of(task)

    def do(self, assignment: Assignment, *, batch_size: int, preempted: Callable[[], bool] | None = None) -> Outcome:
        """Do one child's job and return its outcome, which includes its failures.

        Args:
            assignment: the child, which has a job.
            batch_size: images or sequences of a step.
            preempted: called before each step; returns whether the child must stop. Its steps so far are on the shards.

        Raises:
            StoreError: a shard did not answer or could not write, or the weights do not fit the layout.
        """
        begun = time.perf_counter()
        result: dict[str, Any] = {"curve": (), "parameters": None, "flops": None, "measurements": {}}
        failure, weights = None, MeteredStore(self._weights)
        try:
            with computing_with(self._threads):
                if isinstance(assignment.job, Score):
                    self._score(assignment, assignment.job, batch_size, weights, result)
                elif isinstance(assignment.job, Steps):
                    before = self._before(begun, preempted)
                    self._make_steps(assignment, assignment.job, batch_size, weights, result, before)
        except NonFinite as error:
            failure = Failure(cause=Cause.DIVERGED, message=str(error))
        except StoreError:
            raise
        except Exception as error:
            failure = failure_of(error)
        seconds = time.perf_counter() - begun
        result["measurements"] |= weights.traffic.measurements()
        return Outcome(**result, seconds=seconds, seed=assignment.seed, failure=failure, measure=self._task.measure)

    def _before(self, begun: float, preempted: Callable[[], bool] | None) -> Callable[[int], None]:
        """Return what is called before each step of an attempt that began at this time."""
        limit = self._budget.max_seconds

        def check(step: int) -> None:
            if preempted is not None and preempted():
                raise Preempted(f"preempted before step {step + 1}; the steps before it are on the shards")
            if limit is not None and time.perf_counter() - begun > limit:
                raise OverTime(f"{step} steps took more than {limit:g} s, which is `max_seconds`")

        return check

    def _make_steps(
        self,
        assignment: Assignment,
        job: Steps,
        batch_size: int,
        weights: ParameterStore,
        result: dict[str, Any],
        before: Callable[[int], None],
    ) -> None:
        assert assignment.lane is not None
        paths = [path_gates(self._space, path) for path in job.paths]
        batches = self._batches(assignment.seed, batch_size)
        rule = ObjectiveSteps(job, self._network, paths, batches, assignment.seed, self._costs, self._groups)
        stores = Stores(weights, self._policy)
        try:
            make_steps(stores, assignment.lane, job.count, rule, before=before, pause=lambda: time.sleep(PAUSE_S))
        finally:
            result["measurements"] = rule.means()

    def _score(
        self, assignment: Assignment, job: Score, batch_size: int, store: ParameterStore, result: dict[str, Any]
    ) -> None:
        gates = path_gates(self._space, assignment.tokens)
        result["parameters"] = parameters(self._network, gates)
        result["flops"] = self._data.flops(self._network, gates)
        snapshot = store.pull(self._network.names(gates))
        batches = self._batches(assignment.seed, batch_size)("images to refit")
        weights, gates = moved(snapshot.values, self._device), moved(gates, self._device)
        count = int(job.settings["refit_batches"])
        refit_on = batches.to_refit(count) if count else None
        some = int(job.settings.get("batches", 0))
        found = self._data.score(self._network, weights, gates, batches, some, refit_on)
        metric = self._data.metric(found)
        if not (math.isfinite(found.loss) and math.isfinite(metric)):
            raise Diverged(f"the validation loss of the path is {found.loss}")
        result["curve"], result["measurements"] = (metric,), {"loss": found.loss}

    def _batches(self, seed: int, size: int) -> Callable[[str], DrawnBatches]:
        """Return the function that gives the batches of a child for one purpose, the same at each call."""

        def batches(purpose: str) -> DrawnBatches:
            generator = torch.Generator(self._device).manual_seed(derive(seed, purpose))
            return self._data.batches(size, generator)

        return batches


def _costs(config: RunConfig, shared: SharedWeights, task: Task) -> Costs:
    """Return what each option costs, by gate; nothing if the children's objectives count no costs."""
    if shared.costs is None:
        return {}
    if shared.costs == "latency":
        # Measured once: each worker's own table would be another one, and each attempt's too.
        table = config.option_latencies
        assert table, "latencies are measured when the run is made"
    else:
        assert isinstance(task, ImageTask)  # `shared_weights.check_weights` refuses costs for text
        table = option_costs(shared.supernet, task, MEASURES[shared.costs], config.budget.regime)
    return {gate: tuple(map(math.log1p, costs)) for gate, costs in table.items()} if shared.log_costs else table
