"""The ratio of two costs, which stays in bounds where one of them is 0. Standard library only."""

MAX_RATIO = 1e6
"""A ratio of costs counts as at most this, and as at least its inverse: a network may have no parameters at all."""


def cost_ratio(cost: float, other: float) -> float:
    """Return cost / other within the bounds, of two numbers from 0 of which at least one is above it."""
    return MAX_RATIO if cost >= MAX_RATIO * other else max(cost / other, 1 / MAX_RATIO)
