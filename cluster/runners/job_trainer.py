"""Does jobs on the weights that children share, in a worker: steps of training, and scores of paths."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor

from child_trainer.outcome import Cause, Failure, Outcome
from child_trainer.seeding import derive
from child_trainer.supernets.batches import Batches, ImageSource
from child_trainer.supernets.cost import flops, parameters
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from child_trainer.supernets.objectives.objective import Draw, HalfStep, Settings, Step
from child_trainer.supernets.scoring import score
from child_trainer.tasks.image import ImageTask
from child_trainer.threads import computing_with
from child_trainer.training.task import Diverged, OverTime, Preempted, Task
from child_trainer.training.train import failure_of
from cluster.config.run_config import RunConfig
from cluster.runners.build import make_searcher
from cluster.runners.shared_weights import make_network
from cluster.search.evaluator import Assignment
from cluster.search.steps import make_steps
from controller.searcher import shared_weights_of
from controller.space import HasSupernet
from ps.errors import NonFinite, StoreError
from ps.store import ParameterStore

PAUSE_S = 0.1
"""Seconds between two pulls of a lane that must wait for others."""


@dataclass(frozen=True, kw_only=True)
class JobStores:
    """What jobs read and change.

    Attributes:
        weights: the shared weights.
        policy: the searcher's parameters, which have the strengths of the gates if children learn them.
    """

    weights: ParameterStore
    policy: ParameterStore | None = None

    def of(self, job: Steps) -> tuple[ParameterStore, ...]:
        """Return the stores that these steps read, in this order."""
        if not job.strengths:
            return (self.weights,)
        assert self.policy is not None, "strengths are parameters of the searcher"
        return self.policy, self.weights


class JobTrainer:
    """Does the jobs of one run in this process.

    Args:
        config: the run's.
        task: the run's, with images.
        stores: the shards of the shared weights, and of the searcher's parameters if children learn strengths.
        device: where to compute, as PyTorch names it.
    """

    def __init__(self, config: RunConfig, task: Task, stores: JobStores, *, device: str = "cpu") -> None:
        shared = shared_weights_of(make_searcher(config))
        assert shared is not None
        assert isinstance(task, ImageTask)
        self._space = cast(HasSupernet, config.search_space)
        self._network = make_network(config, shared)
        self._budget, self._threads = config.budget, config.topology.threads_per_child
        self._task, self._stores, self._device = task, stores, device
        self._source = ImageSource(task.training, task.validation, task.augmented, task.centred)

    def do(self, assignment: Assignment, *, batch_size: int, preempted: Callable[[], bool] | None = None) -> Outcome:
        """Do one child's job and return its outcome, which includes its failures.

        Args:
            assignment: the child, which has a job.
            batch_size: images of a step.
            preempted: called before each step; returns whether the child must stop. Its steps so far are on the shards.

        Raises:
            StoreError: a shard did not answer or could not write, or the weights do not fit the layout.
        """
        begun = time.perf_counter()
        result: dict[str, Any] = {"curve": (), "parameters": None, "flops": None}
        failure = None
        try:
            with computing_with(self._threads):
                if isinstance(assignment.job, Score):
                    self._score(assignment, assignment.job, batch_size, result)
                elif isinstance(assignment.job, Steps):
                    self._make_steps(assignment, assignment.job, batch_size, result, self._before(begun, preempted))
        except NonFinite as error:
            failure = Failure(cause=Cause.DIVERGED, message=str(error))
        except StoreError:
            raise
        except Exception as error:
            failure = failure_of(error)
        seconds = time.perf_counter() - begun
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
        self, assignment: Assignment, job: Steps, batch_size: int, result: dict[str, Any], before: Callable[[int], None]
    ) -> None:
        assert assignment.lane is not None
        paths = [self._gates(path) for path in job.paths]
        rule = _Rule(job, self._network, paths, self._batches(assignment.seed, batch_size), assignment.seed)
        stores = self._stores.of(job)
        try:
            make_steps(stores, assignment.lane, job.pushes, rule, before=before, pause=lambda: time.sleep(PAUSE_S))
        finally:
            result["measurements"] = rule.means()

    def _score(self, assignment: Assignment, job: Score, batch_size: int, result: dict[str, Any]) -> None:
        gates = self._gates(assignment.tokens)
        result["parameters"] = parameters(self._network, gates)
        result["flops"] = flops(self._network, gates, self._task.input_shape)
        snapshot = self._stores.weights.pull(self._network.names(gates))
        batches = self._batches(assignment.seed, batch_size)("images to refit")
        weights, gates = _moved(snapshot.values, self._device), _moved(gates, self._device)
        count = int(job.settings["refit_batches"])
        refit_on = batches.to_refit(count) if count else None
        some = int(job.settings.get("batches", 0))
        validation = batches.some_validation(some) if some else batches.all_validation()
        found = score(self._network, weights, gates, validation, refit_on)
        if not math.isfinite(found.loss):
            raise Diverged(f"the validation loss of the path is {found.loss}")
        result["curve"], result["measurements"] = (found.accuracy,), {"loss": found.loss}

    def _gates(self, tokens: Sequence[int]) -> dict[str, Tensor]:
        return {name: torch.tensor(vector) for name, vector in self._space.gates(tokens).items()}

    def _batches(self, seed: int, size: int) -> Callable[[str], Batches]:
        """Return the function that gives the batches of a child for one purpose, the same at each call."""

        def batches(purpose: str) -> Batches:
            generator = torch.Generator(self._device).manual_seed(derive(seed, purpose))
            return Batches(self._source, size, generator)

        return batches


class _Rule:
    """The steps of one child, as `make_steps` makes them.

    Args:
        job: the child's.
        network: the supernet.
        paths: the gates of each step's path; none if the objective draws them.
        batches: returns the batches for one purpose.
        seed: the child's.
    """

    def __init__(
        self,
        job: Steps,
        network: SupernetNetwork,
        paths: Sequence[Mapping[str, Tensor]],
        batches: Callable[[str], Batches],
        seed: int,
    ) -> None:
        if job.objective not in OBJECTIVES:
            raise ValueError(f"there is no objective {job.objective!r}; the objectives are {', '.join(OBJECTIVES)}")
        objective = OBJECTIVES[job.objective]
        self._settings: Settings = objective.settings_of(job.settings)
        self._parts = cast(tuple[HalfStep[Settings], ...], objective.half_steps)
        if job.parts != len(self._parts):
            raise ValueError(f"a step of {job.objective!r} has {len(self._parts)} parts, got {job.parts}")
        self._strengths = job.strengths
        self._network, self._paths, self._batches, self._seed = network, paths, batches, seed
        self._made: list[Step] = []

    def means(self) -> dict[str, float]:
        """Return the means over the steps of this attempt, if it made any: of the training, and of the validation.

        Parts of steps that change the weights have training batches, and all others validation batches.
        """
        training = [made for made in self._made if made.weights]
        others = [made for made in self._made if not made.weights]
        return {
            f"{prefix}{name}": fmean(getattr(made, name) for made in some)
            for prefix, some in (("", training), ("validation_", others))
            for name in ("loss", "accuracy")
            if some
        }

    def names(self, step: int, pulled: Sequence[Mapping[str, Tensor]]) -> list[str]:
        """Return the names of the strengths, and then of the weights that a part of a step reads."""
        if self._strengths and not pulled:
            return list(self._network.gate_sizes)
        number, part = self._part(step)
        if not self._is_due(number, part):
            return []
        return part.names(self._network, self._draw(step, number, pulled[0] if self._strengths else {}))

    def gradients(self, step: int, pulled: Sequence[Mapping[str, Tensor]]) -> list[Mapping[str, Tensor]]:
        """Return the gradients of a part of a step, by name: of the strengths if there are any, and of the weights."""
        number, part = self._part(step)
        if not self._is_due(number, part):
            return [{} for _ in pulled]
        batches, strengths = self._batches(f"images of step {step}"), pulled[0] if self._strengths else {}
        device = batches.generator.device
        draw = self._draw(step, number, strengths)
        made = part.step(self._network, batches, _moved(pulled[-1], device), draw, self._settings)
        if not math.isfinite(made.loss):
            raise Diverged(f"the loss is {made.loss} in step {number + 1}")
        self._made.append(made)
        weights = _moved(made.weights, "cpu")
        return [_moved(made.strengths, "cpu"), weights] if self._strengths else [weights]

    def _part(self, step: int) -> tuple[int, HalfStep[Settings]]:
        """Return the number of the whole step, and which part of it this is."""
        number, part = divmod(step, len(self._parts))
        return number, self._parts[part]

    def _is_due(self, number: int, part: HalfStep[Settings]) -> bool:
        return number % part.period(self._settings) == 0

    def _draw(self, step: int, number: int, strengths: Mapping[str, Tensor]) -> Draw:
        generator = torch.Generator().manual_seed(derive(self._seed, f"gates of step {step}"))
        given = self._paths[number] if self._paths else strengths
        _, part = self._part(step)
        return part.draw(self._network.gate_sizes, given, self._settings, generator)


def _moved(tensors: Mapping[str, Tensor], device: str | torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}
