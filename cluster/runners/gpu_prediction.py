"""Predicts the memory of a GPU that children allocate, for the pool, which gives each child a part of a GPU by it."""

from collections.abc import Callable

from child_trainer.architectures.architecture import Architecture
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.tasks.image_memory import training_bytes
from cluster.config.run_config import RunConfig
from cluster.search.evaluator import Assignment

MAX_KNOWN = 4096
"""Networks whose prediction is kept: seeds and repeats of one have the same."""


def memory_predictor(config: RunConfig) -> Callable[[Assignment], int | None]:
    """Return the function that predicts the bytes that a child allocates; `None` where they are unknown.

    They are known of image classifiers, trained from scratch or from a parent's weights. A language model, and a job
    on shared weights, has no prediction, and so gets a whole GPU.
    """
    problem, budget, examples = config.task.entry.problem, config.budget, config.task.entry.examples
    known: dict[str, int | None] = {}

    def predicted(architecture: Architecture) -> int | None:
        assert problem is not None
        try:
            return training_bytes(architecture, problem, budget, examples)
        except Exception:  # of a user's own operations, too: the training reports what is wrong with the network
            return None

    def predict(assignment: Assignment) -> int | None:
        architecture = assignment.architecture
        if problem is None or architecture is None or isinstance(assignment.job, Steps | Score):
            return None
        if architecture.digest not in known:
            if len(known) >= MAX_KNOWN:
                known.clear()
            known[architecture.digest] = predicted(architecture)
        return known[architecture.digest]

    return predict
