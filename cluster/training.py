"""What a worker does with a child: load the task once, then train one child after another."""

from child_trainer.outcome import Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.train import train
from cluster.config import RunConfig
from cluster.evaluator import Assignment
from cluster.seeding import derive


class Trainer:
    """Trains children of one run in this process.

    Args:
        config: the run's task and budget.
        gpu: train on the process's first GPU.

    Raises:
        TaskError: the data cannot be had here.
        RuntimeError: there is a GPU, but this PyTorch cannot use it.
    """

    def __init__(self, config: RunConfig, *, gpu: bool = False) -> None:
        options = config.task
        gpu = gpu and options.task != "synthetic"
        if gpu:
            _check_cuda()
        self._budget = config.budget
        self._device = "cuda" if gpu else "cpu"
        self._task = load_task(
            options.task,
            data=options.data,
            seed=derive(config.seed, "split"),
            device=self._device,
            child_seconds=options.child_seconds,
        )

    def train(self, assignment: Assignment) -> Outcome:
        """The outcome of one child, its own faults included."""
        outcome = train(assignment.architecture, self._task, self._budget, seed=assignment.seed, device=self._device)
        if self._device == "cuda":
            _release_memory()
        return outcome


def _check_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(
            f"this worker was given a GPU, but PyTorch {torch.__version__} here cannot use it: install a CUDA build,"
            " or train on the CPU with --gpus-per-child 0"
        )


def _release_memory() -> None:
    """What a child leaves in PyTorch's cache would be missing to the next, and to whoever shares the GPU."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
