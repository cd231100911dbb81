"""A recurrent cell trained on text and tested: what benchmarks of language models have in common."""

import math
from pathlib import Path

import torch

from child_trainer.architectures.architecture import Architecture
from child_trainer.networks.language_model import LanguageModel
from child_trainer.outcome import Budget, Outcome
from child_trainer.tasks.language import LanguageTask, load_test_text
from child_trainer.training.task import Diverged
from child_trainer.training.train import train


def train_and_test(
    cell: Architecture, task: LanguageTask, budget: Budget, seed: int, data: Path | None
) -> tuple[Outcome, float]:
    """Train a language model of the cell; return the outcome and the test perplexity, infinite if it diverged.

    Args:
        cell: the recurrent cell.
        task: the text, and the model around the cell.
        budget: how the model is trained.
        seed: of the weights and of dropout.
        data: the folder of the task's texts, if it needs one.
    """
    models: list[LanguageModel] = []

    class ModelKeepingTask(LanguageTask):
        """A task that keeps the trained model, which an outcome does not contain."""

        def perplexity(self, model: LanguageModel, text: torch.Tensor) -> float:
            models[:] = [model]
            return super().perplexity(model, text)

    keeping = ModelKeepingTask(**{name: getattr(task, name) for name in task.__dataclass_fields__})
    outcome = train(cell, keeping, budget, seed=seed)
    try:
        test = math.inf if outcome.failure else task.perplexity(models[0], load_test_text(task, data))
    except Diverged:
        test = math.inf
    return outcome, test
