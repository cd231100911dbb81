"""Rewards: from a child's outcome to the number that the searcher learns from. Standard library only."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.outcome import Measure, Outcome

FAILED = 0.0
"""Reward of a child that failed, which counts as completed (spec §1.6)."""


def accuracy(outcome: Outcome) -> float:
    """Return the best of the last five validation accuracies, in [0, 1]."""
    return FAILED if outcome.metric is None else outcome.metric


def cubed_accuracy(outcome: Outcome) -> float:
    """Return the cube of `accuracy` (Zoph & Le 2017, section 4.1; spec §1.6)."""
    return accuracy(outcome) ** 3


MAX_ACCURACY = 0.999
"""The accuracy that `tangent_accuracy` takes for any higher one, for which the reward would grow without limit."""


def tangent_accuracy(outcome: Outcome) -> float:
    """Return tan(accuracy * pi / 2), by which a gain counts more the higher the accuracy is (Cai et al. 2018, EAS)."""
    return math.tan(min(accuracy(outcome), MAX_ACCURACY) * math.pi / 2)


PERPLEXITY_SCALE = 80.0
"""The paper's c: a perplexity of c earns 1 / c."""


def perplexity(outcome: Outcome) -> float:
    """Return c / perplexity^2 (Zoph & Le 2017, section 4.2; spec §2.3).

    The perplexity is that of the best of the last five validation epochs.
    """
    if outcome.metric is None:
        return FAILED
    # A product, because a power raises if the square is not finite; the reward is 0 then.
    return PERPLEXITY_SCALE / (outcome.metric * outcome.metric)


def inverse_perplexity(outcome: Outcome) -> float:
    """Return c / perplexity (Pham et al. 2018, arXiv 1802.03268, section 2.2; spec §6.3).

    The perplexity is as in `perplexity`.
    """
    return FAILED if outcome.metric is None else PERPLEXITY_SCALE / outcome.metric


def fitness(outcome: Outcome) -> float:
    """Return the fitness that the task computes."""
    return FAILED if outcome.metric is None else outcome.metric


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward and the metrics that it is for.

    Attributes:
        compute: returns the reward of an outcome; 0 for a child that failed.
        measures: the metrics that it can judge.
    """

    compute: Callable[[Outcome], float]
    measures: tuple[Measure, ...]


_ACCURACIES = (Measure.ACCURACY, Measure.SCORE)

REWARDS: Mapping[str, Reward] = MappingProxyType(
    {
        "cubed-accuracy": Reward(cubed_accuracy, _ACCURACIES),
        "accuracy": Reward(accuracy, _ACCURACIES),
        "tangent-accuracy": Reward(tangent_accuracy, _ACCURACIES),
        "perplexity": Reward(perplexity, (Measure.PERPLEXITY,)),
        "inverse-perplexity": Reward(inverse_perplexity, (Measure.PERPLEXITY,)),
        "fitness": Reward(fitness, (Measure.FITNESS,)),
    }
)
"""All rewards by name."""
