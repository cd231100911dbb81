"""Learning rates that fall over a search, as functions of how far it is. Standard library only."""

import math


def cosine(first: float, last: float, progress: float) -> float:
    """Return a number that falls from the first to the last along half a cosine, at a progress from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


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
