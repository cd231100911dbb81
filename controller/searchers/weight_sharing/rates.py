"""Learning rates that fall over a search, as functions of how far it is. Standard library only."""

import math


def cosine(progress: float, highest: float, lowest: float) -> float:
    """Return the rate at a share of a cycle, from `highest` at 0 to `lowest` at 1 along half a cosine."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * progress)) / 2


def share_of_cycle(epoch: int, first: int, factor: int) -> float:
    """Return how much of its cycle is behind an epoch, counted from 0 (Loshchilov & Hutter 2017, arXiv 1608.03983).

    Args:
        epoch: of the search.
        first: epochs of the first cycle.
        factor: by how much longer each cycle is than the one before.
    """
    length = first
    while epoch >= length:
        epoch -= length
        length *= factor
    return epoch / length
