"""Parts for tests that interrupt trainings."""

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from tests.golden import architecture

# Batch normalisation is in every `conv`; its running statistics and dropout's random numbers must survive.
NETWORKS = {
    "batch norm": (BATCH_NORM := architecture(((3, 3, 24, ()), (3, 3, 24, (1,)), (1, 1, 24, (1, 2))), (1, 2, 1))),
    "dropout": Architecture(
        BATCH_NORM.kind, (*BATCH_NORM.nodes, node("dropout", "dropout", BATCH_NORM.outputs[0], rate=0.3)), ("dropout",)
    ),
}
EVERY_PART = Architecture(
    "feedforward",
    (
        node("a", "conv", "image", filters=8, height=3, width=3, stride_height=2, stride_width=2),
        node("b", "conv", "a", filters=8, height=3, width=3),
        node("path", "drop_path", "b", depth=0.5),
        node("sum", "add", ("path", "a")),
        node("out", "dropout", "sum", rate=0.2),
        node("side", "conv", "a", filters=4, height=1, width=1),
    ),
    ("out", "side"),
)
"""A network in which every part of a regime has something to do."""

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


_PARTS = {
    "clip_norm": 0.1,
    "label_smoothing": 0.1,
    "cutout": 3,
    "path_keep": 0.5,
    "auxiliary_weight": 0.4,
    "norm_epsilon": 1e-3,
    "norm_momentum": 0.2,
    "restart_below": 0.99,  # no first epoch is so good: every training begins again, once
    "restarts": 1,
}
REGIMES: dict[str, Regime] = {
    "adam": Regime(optimizer="adam", initial="xavier", schedule="cosine", warmup_epochs=0.5, **_PARTS),
    "rmsprop": Regime(optimizer="rmsprop", schedule="steps", decay_at=(0.4, 0.8), optimizer_epsilon=0.1, **_PARTS),
    "sgd": Regime(schedule="exponential", decay=0.5, precision="bfloat16", **_PARTS),
}
"""Regimes that use every part."""
