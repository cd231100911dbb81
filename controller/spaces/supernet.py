"""What spaces with a supernet have in common: gate vectors, and what strengths favour. Standard library only."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

Network = Literal["search", "final"]
"""The form of a space's networks: as they share weights in a search, or as the paper trains them after it."""


def some_hot(chosen: Collection[int], size: int) -> tuple[float, ...]:
    """Return a gate vector of this size: 1 at each chosen place, 0 elsewhere."""
    return tuple(float(place in chosen) for place in range(size))


def one_hot(chosen: int, size: int) -> tuple[float, ...]:
    """Return a gate vector of this size: 1 at the chosen place, 0 elsewhere."""
    return some_hot((chosen,), size)


def strengths_of(strengths: Mapping[str, Sequence[float]], gate: str, size: int) -> Sequence[float]:
    """Return a gate's strengths.

    Raises:
        ValueError: the gate has none, or not `size`.
    """
    if gate not in strengths:
        raise ValueError(f"`strengths` must have {size} numbers for the gate {gate!r}, got none")
    if len(strengths[gate]) != size:
        raise ValueError(f"`strengths` must have {size} numbers for the gate {gate!r}, got {len(strengths[gate])}")
    return strengths[gate]


def probabilities(strengths: Sequence[float]) -> list[float]:
    """Return the softmax of strengths, the probability of each option."""
    largest = max(strengths)
    powers = [math.exp(strength - largest) for strength in strengths]
    return [power / sum(powers) for power in powers]


def strongest(strengths: Sequence[float]) -> int:
    """Return the place of the largest number, the first of equal ones."""
    return max(range(len(strengths)), key=lambda place: strengths[place])


def likely(strengths: Sequence[float], *, least: int = 0, most: int | None = None) -> tuple[int, ...]:
    """Return the places of positive numbers, whose sigmoid is above a half, in ascending order.

    Args:
        strengths: the numbers.
        least, most: limits of how many places; the largest numbers come first. `None`: no limit.
    """
    ranked = sorted(range(len(strengths)), key=lambda place: (-strengths[place], place))[:most]
    return tuple(sorted(place for rank, place in enumerate(ranked) if rank < least or strengths[place] > 0))


def check_searches(network: Network) -> None:
    """Raise `ValueError` unless the networks are those of a search, which share weights."""
    if network != "search":
        raise ValueError(f"`network` must be 'search' for networks that share weights, got {network!r}")
