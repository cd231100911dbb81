"""Parts for tests that interrupt trainings."""

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget
from tests.golden import architecture

# Batch normalisation is in every `conv`; its running statistics and dropout's random numbers must survive.
NETWORKS = {
    "batch norm": (BATCH_NORM := architecture(((3, 3, 24, ()), (3, 3, 24, (1,)), (1, 1, 24, (1, 2))), (1, 2, 1))),
    "dropout": Architecture(
        BATCH_NORM.kind, (*BATCH_NORM.nodes, node("dropout", "dropout", BATCH_NORM.outputs[0], rate=0.3)), ("dropout",)
    ),
}
BUDGET = Budget(epochs=3, batch_size=64, train_fraction=0.3)
STEPS = 4
"""Steps of one epoch: 281 images in batches of 64."""


class Slot:
    """A slot in memory that counts what it saves."""

    def __init__(self, data=None):
        self.data = data
        self.saves = 0

    def load(self):
        return self.data

    def save(self, data):
        self.data = data
        self.saves += 1


def at(*calls):
    """Return a `preempted` callback that returns True at the given calls, counted from 0."""
    numbers = iter(range(10**9))
    return lambda: next(numbers) in calls
