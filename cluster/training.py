"""What a worker does with a child: load the task once, then train one child after another."""

from child_trainer.outcome import Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.train import train
from cluster.config import RunConfig
from cluster.evaluator import Assignment
from cluster.seeding import derive


class Trainer:
    """Trains children of one run on the device that this process has."""

    def __init__(self, config: RunConfig) -> None:
        self._budget = config.budget
        options = config.task
        self._device = "cpu" if options.task == "synthetic" or config.topology.gpus_per_child == 0 else _own_device()
        self._task = load_task(
            options.task,
            data=options.data,
            seed=derive(config.seed, "split"),
            device=self._device,
            child_seconds=options.child_seconds,
        )

    def train(self, assignment: Assignment) -> Outcome:
        """The outcome of one child, its own faults included."""
        return train(assignment.architecture, self._task, self._budget, seed=assignment.seed, device=self._device)


def _own_device() -> str:
    """The GPU that this process was given, if any; imported here, as synthetic children need no torch."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
