"""From what training gave to the number that the searcher learns from. Standard library only."""

from collections.abc import Callable, Mapping

from child_trainer.outcome import Outcome

FAILED = 0.0
"""Reward of a child that failed; it counts as completed (spec §1.6)."""


def accuracy(outcome: Outcome) -> float:
    """The best of the last five validation accuracies, in [0, 1]."""
    return FAILED if outcome.metric is None else outcome.metric


def cubed_accuracy(outcome: Outcome) -> float:
    """The best of the last five validation accuracies, cubed (Zoph & Le 2017, section 4.1; spec §1.6)."""
    return accuracy(outcome) ** 3


REWARDS: Mapping[str, Callable[[Outcome], float]] = {"cubed-accuracy": cubed_accuracy, "accuracy": accuracy}
