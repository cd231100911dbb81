"""The learning mode of several sub-networks ("A-GEM" of the article, mixed operator selection; spec §17.6).

The article's A-GEM is not Averaged Gradient Episodic Memory. Its formula is

    p = sigmoid(g1 c1 + g2 c2 + g3 c3),  c1 = cos t,  c2 = (a-b)/2 + (b-a) cos² t,  c3 = (a-b)/2 + (1-a)(b-a) cos² t

with t = -arccos L, so that cos t = L, where L is the mean |1 - P(y|x)|, a = 0.1 and b = 0.9. `literal_mode` is its text
to the letter, which says the reverse of its prose and can never choose the joint mode; it is here so that a test can
show that. `mode_by_formula` puts the accuracy A = 1 - L in the place of L and asks for the joint mode first.
`mode_by_prose` decides by accuracy and similarity, as the article's words do.

Standard library only.
"""

import math
from enum import StrEnum

from child_trainer.seed_agem.options import SubnetworkOptions

ALPHA, BETA = 0.1, 0.9
"""The article's values of a and b."""

Gamma = tuple[float, float, float]
"""The weights g1, g2, g3 of the formula's terms."""


class Mode(StrEnum):
    """How the sub-networks learn in an epoch.

    In the individual mode each makes a step on its own loss, and what is shared stays as it is. In the iterative mode
    they make steps in turn, one sub-network in each, which moves what is shared, too. In the joint mode one step moves
    all of them by their mean loss.
    """

    INDIVIDUAL = "individual"
    ITERATIVE = "iterative"
    JOINT = "joint"


def mode_by_prose(accuracy: float, similarity: float, options: SubnetworkOptions) -> Mode:
    """Return the mode by the article's words: individual if both are high, iterative if only similarity is.

    It is joint if neither is. The article does not say what follows where accuracy alone is high: that is joint, too,
    because similarity is what is missing.

    Args:
        accuracy: A, the mean probability of the true label, from 0 to 1.
        similarity: S, the mean cosine similarity of two sub-networks' outputs, from 0 to 1.
        options: have the thresholds.
    """
    if similarity < options.agreement_threshold:
        return Mode.JOINT
    return Mode.INDIVIDUAL if accuracy >= options.accuracy_threshold else Mode.ITERATIVE


def mode_by_formula(accuracy: float, gamma: Gamma) -> Mode:
    """Return the mode by the article's formula, with the accuracy in the place of the error.

    It is individual if p > 0.5, else joint if c3 > 0, and else iterative, whether or not c2 > 0. (The article asks for
    c2 > 0 first, which holds wherever c3 > 0 does.)

    Args:
        accuracy: A, the mean probability of the true label, from 0 to 1.
        gamma: the weights of the terms.
    """
    if selection_probability(accuracy, gamma) > 0.5:
        return Mode.INDIVIDUAL
    return Mode.JOINT if terms(accuracy)[2] > 0 else Mode.ITERATIVE


def literal_mode(error: float, gamma: Gamma) -> Mode | None:
    """Return the mode that the article's text chooses to the letter, `None` where it chooses none; nothing uses it.

    Args:
        error: L, the mean |1 - P(y|x)|, from 0 to 1.
        gamma: the weights of the terms.
    """
    _, c2, c3 = terms(error)
    p = selection_probability(error, gamma)
    if p > 0.5:
        return Mode.INDIVIDUAL
    if p < 0.5 and c2 > 0:
        return Mode.ITERATIVE
    return Mode.JOINT if p < 0.5 and c3 > 0 else None


def terms(cosine: float) -> tuple[float, float, float]:
    """Return c1, c2 and c3 for cos t: an accuracy, or to the letter an error, from 0 to 1."""
    c1, half, span = cosine, (ALPHA - BETA) / 2, BETA - ALPHA
    return c1, half + span * cosine**2, half + (1 - ALPHA) * span * cosine**2


def selection_probability(cosine: float, gamma: Gamma) -> float:
    """Return p, the logistic function of the weighted sum of the terms for cos t."""
    total = sum(weight * term for weight, term in zip(gamma, terms(cosine), strict=True))
    # Either form is exact where the other one would overflow.
    return 1 / (1 + math.exp(-total)) if total >= 0 else math.exp(total) / (1 + math.exp(total))


def choose_mode(accuracy: float, similarity: float, options: SubnetworkOptions) -> Mode:
    """Return the mode of an epoch by the rule that the options name.

    Args:
        accuracy: A, the mean probability of the true label, from 0 to 1.
        similarity: S, the mean cosine similarity of two sub-networks' outputs, from 0 to 1.
        options: name the rule and have its settings.
    """
    if options.mode_rule == "prose":
        return mode_by_prose(accuracy, similarity, options)
    return mode_by_formula(accuracy, options.mode_weights)
