"""From what training gave to the number that the searcher learns from. Standard library only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.outcome import Measure, Outcome

FAILED = 0.0
"""Reward of a child that failed; it counts as completed (spec §1.6)."""


def accuracy(outcome: Outcome) -> float:
    """The best of the last five validation accuracies, in [0, 1]."""
    return FAILED if outcome.metric is None else outcome.metric


def cubed_accuracy(outcome: Outcome) -> float:
    """The best of the last five validation accuracies, cubed (Zoph & Le 2017, section 4.1; spec §1.6)."""
    return accuracy(outcome) ** 3


PERPLEXITY_SCALE = 80.0
"""The paper's c: a perplexity of c earns 1 / c."""


def perplexity(outcome: Outcome) -> float:
    """c / perplexity^2, of the best of the last five validation epochs (Zoph & Le 2017, section 4.2; spec §2.3)."""
    if outcome.metric is None:
        return FAILED
    # A product, as a power raises where the square of a perplexity is no longer finite; the reward is 0 there.
    return PERPLEXITY_SCALE / (outcome.metric * outcome.metric)


@dataclass(frozen=True, slots=True)
class Reward:
    """A way to judge an outcome.

    Attributes:
        of: the number; 0 for a child that failed.
        measures: what the outcome's metric may be.
    """

    of: Callable[[Outcome], float]
    measures: tuple[Measure, ...]


_shares = (Measure.ACCURACY, Measure.SCORE)

REWARDS: Mapping[str, Reward] = MappingProxyType(
    {
        "cubed-accuracy": Reward(cubed_accuracy, _shares),
        "accuracy": Reward(accuracy, _shares),
        "perplexity": Reward(perplexity, (Measure.PERPLEXITY,)),
    }
)
"""Every reward by its name."""
