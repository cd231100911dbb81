"""Settings of evolution and local search. Standard library only."""

from dataclasses import dataclass
from typing import Literal

MAX_TOURNAMENT = 100_000
"""Upper bound for `tournament`; with a larger one a child would take longer to choose than to train."""


@dataclass(frozen=True, kw_only=True)
class EvolutionOptions:
    """AmoebaNet's evolution (spec §4.2)."""

    population: int = 100
    """Architectures that are alive at one time; as many random ones start the search (P)."""
    tournament: int = 25
    """How many of those are drawn, with replacement; the best of them becomes the parent (S)."""
    unchanged: float = 0.05
    """Probability that a child is an unchanged copy of its parent."""
    dies: Literal["oldest", "worst"] = "oldest"
    """Which one a new child replaces: the oldest (aging evolution), or the worst of a tournament's draw."""

    def __post_init__(self) -> None:
        for name in ("population", "tournament"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.tournament > MAX_TOURNAMENT:
            raise ValueError(f"`tournament` must be at most {MAX_TOURNAMENT:,}, got {self.tournament}")
        if not 0 <= self.unchanged <= 1:
            raise ValueError(f"`unchanged` must be from 0 to 1, got {self.unchanged}")


@dataclass(frozen=True, kw_only=True)
class LocalSearchOptions:
    """Hill climbing with restarts (spec §4.6)."""

    random_starts: int = 10
    """Random architectures before the first climb, which starts at their best; later climbs start at one each."""

    def __post_init__(self) -> None:
        if self.random_starts < 1:
            raise ValueError(f"`random_starts` must be at least 1, got {self.random_starts}")
