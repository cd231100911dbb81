"""Predicts the memory of a GPU that children allocate, for the pool, which gives each child a part of a GPU by it."""

from collections.abc import Callable
from functools import cache

from child_trainer.architectures.architecture import Architecture
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.tasks import image_memory, language_memory
from child_trainer.tasks.language import LanguageTask
from cluster.config.run_config import RunConfig
from cluster.runners.trainer import loaded_task
from cluster.search.evaluator import Assignment

MAX_KNOWN = 4096
"""Networks whose prediction is kept: seeds and repeats of one have the same."""


def memory_predictor(config: RunConfig) -> Callable[[Assignment], int | None]:
    """Return the function that predicts the bytes that a child allocates; `None` where they are unknown.

    They are known of image classifiers and language models, trained from scratch or from a parent's weights. A job on
    shared weights has no prediction, and so gets a whole GPU. The text of a language task is read when the first child
    is to be predicted.
    """
    predicted = _of_images(config) or _of_language(config)
    known: dict[str, int | None] = {}

    def predict(assignment: Assignment) -> int | None:
        architecture = assignment.architecture
        if predicted is None or architecture is None or isinstance(assignment.job, Steps | Score):
            return None
        if architecture.digest not in known:
            if len(known) >= MAX_KNOWN:
                known.clear()
            try:
                known[architecture.digest] = predicted(architecture)
            except Exception:  # of a user's own operations, too: the training reports what is wrong with the network
                known[architecture.digest] = None
        return known[architecture.digest]

    return predict


def _of_images(config: RunConfig) -> Callable[[Architecture], int] | None:
    problem, examples = config.task.entry.problem, config.task.entry.examples
    if problem is None:
        return None
    return lambda architecture: image_memory.training_bytes(architecture, problem, config.budget, examples)


def _of_language(config: RunConfig) -> Callable[[Architecture], int] | None:
    if config.task.entry.family != "language":
        return None

    @cache
    def task() -> LanguageTask:
        loaded = loaded_task(config.task)
        assert isinstance(loaded, LanguageTask)
        return loaded

    return lambda cell: language_memory.training_bytes(cell, task(), config.budget)
