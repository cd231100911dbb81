"""What a worker does with a child: load the task once, then train one child after another."""

import os
from collections.abc import Callable
from dataclasses import replace

from child_trainer.outcome import Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.summaries import TASKS
from child_trainer.training.checkpoint import CheckpointSlot
from child_trainer.training.train import train
from cluster.config.run_config import RunConfig
from cluster.placement.versions import NodeError, check_driver
from cluster.search.evaluator import Assignment
from cluster.search.seeding import derive
from cluster.storage.dataset_cache import local_data


class Trainer:
    """Trains children of one run in this process.

    Args:
        config: the run's task and budget.
        gpu: train on the process's first GPU.
        slots: where a child keeps the state to go on from, by its id; `None` keeps none.

    Raises:
        TaskError, StorageError: the data cannot be had here.
        RuntimeError: there is a GPU, but this PyTorch cannot use it.
    """

    def __init__(
        self, config: RunConfig, *, gpu: bool = False, slots: Callable[[int], CheckpointSlot] | None = None
    ) -> None:
        options = config.task
        gpu = gpu and TASKS[options.task].trains
        if gpu:
            _check_cuda()
        self._budget = config.budget
        self._slots = slots
        self._device = "cuda" if gpu else "cpu"
        self.task = load_task(
            options.task,
            data=local_data(options.data),
            seed=derive(config.seed, "split"),
            device=self._device,
            child_seconds=options.child_seconds,
            child_spread=options.child_spread,
            faults=options.faults,
            language=options.language,
        )

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        """The outcome of one child, its own faults included.

        Args:
            assignment: the child.
            batch_size: instead of the budget's.
            preempted: asked before each step whether the child is to be given back, its state saved.
        """
        outcome = train(
            assignment.architecture,
            self.task,
            self._budget if batch_size is None else replace(self._budget, batch_size=batch_size),
            seed=assignment.seed,
            device=self._device,
            checkpoints=self._slots and self._slots(assignment.child_id),
            preempted=preempted,
        )
        if self._device == "cuda":
            _release_memory()
        return outcome


def trainer_on(node: str, config: RunConfig, *, gpu: bool, slots: Callable[[int], CheckpointSlot] | None) -> Trainer:
    """The same for a process on the node of this name or address, which runs what the run's driver runs.

    Raises:
        NodeError: it does not, or the trainer cannot be had there; the message names the node.
    """
    try:
        check_driver(os.environ)
        return Trainer(config, gpu=gpu, slots=slots)
    except (ValueError, RuntimeError) as error:
        raise NodeError(f"node {node} cannot train: {error}") from error


def _check_cuda() -> None:
    import torch

    if torch.cuda.is_available():
        return
    cuda = torch.version.cuda
    fit = "install a CUDA build" if cuda is None else f"have an NVIDIA driver that is new enough for CUDA {cuda}"
    raise RuntimeError(
        f"this worker was given a GPU, but PyTorch {torch.__version__} here cannot use it: {fit}, or train on the CPU"
        " with --gpus-per-child 0"
    )


def _release_memory() -> None:
    """What a child leaves in PyTorch's cache would be missing to the next, and to whoever shares the GPU."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
