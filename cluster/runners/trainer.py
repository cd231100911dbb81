"""Trains children in a worker: it loads the task once, then trains one child after another."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from child_trainer.inheritance.trained_weights import Start, TrainedWeights, WeightsError
from child_trainer.outcome import LATENCY, Cause, Outcome, Stopped, TrainingSoFar
from child_trainer.supernets.jobs import Score, Steps, TrainOn
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.table_file import SampleTable
from child_trainer.training.checkpoint import CheckpointSlot
from child_trainer.training.task import Task
from child_trainer.training.train import failure_of, train
from child_trainer.training.train_together import train_together, why_alone
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.placement.versions import NodeError, check_driver
from cluster.pool.child_weights import ChildWeightsSlot, LostWeights, WeightsStorage, load_weights
from cluster.search.evaluator import Assignment
from cluster.search.seeding import derive
from cluster.storage.dataset_cache import local_data

if TYPE_CHECKING:
    from cluster.runners.job_trainer import JobTrainer
    from ps.store import ParameterStore


Judge = Callable[[Assignment, TrainingSoFar], Stopped | None]
"""Called between two epochs of a child; returns why its training is stopped there, or `None` to go on."""

MAX_PARENTS = 2
"""Parents whose weights a process keeps in memory: most children that are trained at once have the same one."""


class Trainer:
    """Trains children of one run in this process.

    Args:
        config: the run's task and budget.
        gpu: train on the process's first GPU.
        slots: returns the slot for a child's checkpoints by its id; `None`: no checkpoints.
        task: the run's task, if it has been loaded already.
        weights: the shards of the weights that children share, if the searcher's children have jobs on such.
        policy: the shards of the searcher's parameters, if the children learn these with the weights.
        child_weights: where the children's weights are kept, if others begin with them.
        judge: decides after each epoch whether a child is stopped early; `None`: none is.

    Raises:
        TaskError, StorageError: the data cannot be loaded here.
        RuntimeError: there is a GPU, but this PyTorch cannot use it.
    """

    def __init__(  # noqa: PLR0913 - keywords of which most processes need few
        self,
        config: RunConfig,
        *,
        gpu: bool = False,
        slots: Callable[[int], CheckpointSlot] | None = None,
        task: Task | None = None,
        weights: "ParameterStore | None" = None,
        policy: "ParameterStore | None" = None,
        child_weights: WeightsStorage | None = None,
        judge: Judge | None = None,
    ) -> None:
        self._judge = judge
        gpu = gpu and config.task.entry.trains
        if gpu:
            _check_cuda()
        self._budget = config.budget
        self._threads = config.topology.threads_per_child
        self._slots = slots
        self._device = "cuda" if gpu else "cpu"
        self._processor = _processor(self._device) if config.task.entry.trains else None
        loaded = task or loaded_task(config.task, seed=derive(config.seed, "split"), device=self._device)
        self.task = loaded.of_space(config.search_space.decode) if isinstance(loaded, SampleTable) else loaded
        self._jobs = _job_trainer(config, self.task, weights, policy, self._device) if weights else None
        # A task that trains no networks keeps no weights, and no child of it begins with any.
        self._latency_regime = config.budget.regime if _measures_latency(config) else None
        self._problem = config.task.entry.problem
        self._child_weights = child_weights if getattr(self.task, "inherits", False) else None
        self._parent = lru_cache(maxsize=MAX_PARENTS)(self._load_parent)

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        """Train one child, or do its job; return its outcome, which includes its failures.

        Args:
            assignment: the child.
            batch_size: instead of the budget's.
            preempted: called before each step; returns whether the child must stop and save its state.

        Raises:
            StoreError: the shards of the shared weights do not do what they should.
            LostWeights: the weights with which the child must begin are gone.
        """
        outcome = self._with_latency(assignment, self._outcome(assignment, batch_size, preempted))
        if self._device == "cuda":
            _release_memory()
        return replace(outcome, processor=self._processor) if self._processor else outcome

    def why_alone(self, assignment: Assignment) -> str | None:
        """Return why the child is not trained as one network with other seeds; `None` if it may be, and is faster."""
        if assignment.job is not None or assignment.architecture is None:
            return "it is not trained from scratch"
        return why_alone(assignment.architecture, self.task, self._budget, self._device)

    def train_together(
        self, assignments: Sequence[Assignment], *, preempted: Callable[[], bool] | None = None
    ) -> list[Outcome]:
        """Train children of one architecture as one network; return their outcomes, failures included.

        Args:
            assignments: the children, of different seeds, for which `why_alone` has no reason.
            preempted: called between two epochs; returns whether all must stop and save their state.
        """
        first = assignments[0]
        assert first.architecture is not None
        weights = self._child_weights
        outcomes = train_together(
            first.architecture,
            self.task,
            self._budget,
            seeds=[one.seed for one in assignments],
            device=self._device,
            threads=self._threads,
            checkpoints=self._slots and self._slots(first.child_id),
            preempted=preempted,
            keep=[ChildWeightsSlot(weights, one.child_id) for one in assignments] if weights else (),
        )
        outcomes = [self._with_latency(*each) for each in zip(assignments, outcomes, strict=True)]
        if self._device == "cuda":
            _release_memory()
        return [replace(outcome, processor=self._processor) for outcome in outcomes]

    def _outcome(self, assignment: Assignment, batch_size: int | None, preempted: Callable[[], bool] | None) -> Outcome:
        if isinstance(assignment.job, Steps | Score):
            assert self._jobs is not None, "only a searcher with shared weights may propose steps and scores"
            return self._jobs.do(assignment, batch_size=batch_size or self._budget.batch_size, preempted=preempted)
        assert assignment.architecture is not None
        try:
            start = assignment.job and self._start(assignment.child_id, assignment.job)
        except (OSError, WeightsError) as error:
            return Outcome.failed(Cause.CRASHED, str(error), seed=assignment.seed)
        return train(
            assignment.architecture,
            self.task,
            self._budget if batch_size is None else replace(self._budget, batch_size=batch_size),
            seed=assignment.seed,
            device=self._device,
            threads=self._threads,
            checkpoints=self._slots and self._slots(assignment.child_id),
            preempted=preempted,
            start=start,
            keep=ChildWeightsSlot(self._child_weights, assignment.child_id) if self._child_weights else None,
            stop_early=self._judge and partial(self._judge, assignment),
        )

    def _with_latency(self, assignment: Assignment, outcome: Outcome) -> Outcome:
        """Return the outcome with the child's latency, if that is an objective; it is measured after the training.

        It is part of the outcome, so that a resume never measures it again.
        """
        regime, problem, architecture = self._latency_regime, self._problem, assignment.architecture
        if regime is None or problem is None or architecture is None or outcome.metric is None:
            return outcome
        from child_trainer.networks.latency import latency_ms

        try:
            latency = latency_ms(architecture, problem, regime, device=self._device)
        except Exception as error:
            return replace(outcome, failure=failure_of(error))
        return replace(outcome, measurements={**outcome.measurements, LATENCY: latency})

    def _start(self, child_id: int, job: TrainOn) -> Start:
        """Return what a child begins with.

        Raises:
            OSError: the folder of its parent's weights cannot be reached.
            WeightsError: no weights are kept.
            LostWeights: the parent's are gone.
        """
        if self._child_weights is None:
            raise WeightsError(
                "no weights of children are kept: children that begin with some need a searcher with a method `keeps`,"
                " and a task of images or text"
            )
        try:
            return Start(parent=self._parent(job.parent, job.checksum), changes=job.changes)
        except WeightsError as error:
            raise LostWeights(child_id, job.parent, job.checksum, str(error)) from error

    def _load_parent(self, child_id: int, checksum: str) -> TrainedWeights:
        assert self._child_weights is not None
        return load_weights(self._child_weights, child_id, checksum)


def loaded_task(options: TaskOptions, *, seed: int = 0, device: str = "cpu") -> Task:
    """Load a run's task from this node's copy of its data.

    Raises:
        TaskError, StorageError: the data cannot be loaded here.
    """
    data = local_data(options.data)
    with options.own_file():
        options.check_files(data)
        return load_task(
            options.task,
            data=data,
            seed=seed,
            device=device,
            options=options.options,
            all_training=options.all_training,
        )


def _measures_latency(config: RunConfig) -> bool:
    """Return whether latency is an objective that no table answers."""
    return config.task.entry.trains and any(cost.name == "latency" for cost in config.objectives.costs)


def training_facts(config: RunConfig) -> dict[str, str]:
    """Return what a child's curve depends on besides seed and versions, as this process has it, for the ledger."""
    if not config.task.entry.trains:
        return {}
    return {"processor": _processor("cpu"), "threads": str(config.topology.threads_per_child)}


def _job_trainer(
    config: RunConfig, task: Task, weights: "ParameterStore", policy: "ParameterStore | None", device: str
) -> "JobTrainer":
    from cluster.runners.job_trainer import JobTrainer

    return JobTrainer(config, task, weights, policy, device=device)


def trainer_on(  # noqa: PLR0913 - keywords of `Trainer`
    node: str,
    config: RunConfig,
    *,
    gpu: bool,
    slots: Callable[[int], CheckpointSlot] | None,
    weights: "ParameterStore | None" = None,
    policy: "ParameterStore | None" = None,
    child_weights: WeightsStorage | None = None,
    judge: Judge | None = None,
) -> Trainer:
    """Return the trainer of a process on this node, after checking that its versions are the driver's.

    The arguments after the node are those of `Trainer`.

    Raises:
        NodeError: its versions differ, or the task cannot be loaded there; the message names the node.
    """
    try:
        check_driver(os.environ)
        if config.task.entry.trains:
            import torch

            # For the process, too: children that end in one of its threads must change nothing for the others.
            torch.set_num_threads(config.topology.threads_per_child)
        return Trainer(
            config, gpu=gpu, slots=slots, weights=weights, policy=policy, child_weights=child_weights, judge=judge
        )
    except (ValueError, RuntimeError) as error:
        raise NodeError(f"node {node} cannot train: {error}") from error


def _check_cuda() -> None:
    import torch

    if torch.cuda.is_available():
        torch.ones(1, device="cuda").item()  # fails, with the reason, where this PyTorch has no kernels for the GPU
        return
    cuda = torch.version.cuda
    fit = "install a CUDA build" if cuda is None else f"have an NVIDIA driver that is new enough for CUDA {cuda}"
    raise RuntimeError(
        f"this worker was given a GPU, but PyTorch {torch.__version__} here cannot use it: {fit}, or train on the CPU"
        " with --gpus-per-child 0"
    )


def _release_memory() -> None:
    """Empty PyTorch's cache, so that the next child and others on this GPU can use the memory."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _processor(device: str) -> str:
    """Return the kind of this process's processor, as far as results depend on it."""
    from child_trainer.training.processor import processor_kind

    return processor_kind(device)
