"""Settings of evolution and local search. Standard library only."""

import math
from dataclasses import dataclass
from typing import Literal

MAX_TOURNAMENT_SIZE = 100_000
"""Upper bound for `tournament`; with a larger one a choice would take longer than a training."""


@dataclass(frozen=True, kw_only=True)
class EvolutionOptions:
    """AmoebaNet's evolution (spec §4.2)."""

    population: int = 100
    """Members of the population (P); the search starts with as many random ones."""
    tournament: int = 25
    """Members drawn for a tournament (S); the best becomes the parent. They are drawn with replacement."""
    tournament_share: float | None = None
    """Share of the present population drawn for a tournament, rounded up, in place of `tournament` members."""
    unchanged: float = 0.05
    """Probability that a child is an unchanged copy of its parent."""
    dies: Literal["oldest", "worst", "none"] = "oldest"
    """Which member a child replaces; the oldest (aging evolution), the worst of a tournament, or none: the population
    grows (hierarchical evolution, spec §8.2)."""

    def __post_init__(self) -> None:
        for name in ("population", "tournament"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.tournament > MAX_TOURNAMENT_SIZE:
            raise ValueError(f"`tournament` must be at most {MAX_TOURNAMENT_SIZE:,}, got {self.tournament}")
        if self.tournament_share is not None and not 0 < self.tournament_share <= 1:
            raise ValueError(f"`tournament_share` must be above 0 and at most 1, got {self.tournament_share}")
        if not 0 <= self.unchanged <= 1:
            raise ValueError(f"`unchanged` must be from 0 to 1, got {self.unchanged}")

    def drawn(self, members: int) -> int:
        """Return how many members are drawn for a tournament in a population of so many."""
        return self.tournament if self.tournament_share is None else math.ceil(self.tournament_share * members)

    def caution(self, children: float) -> str | None:
        """Return a warning for a search with so few children, as the end of a sentence; `None` if there are enough.

        Evolution whose population is most of the search is little else than random search.
        """
        if self.population <= children / 2:
            return None
        note = f"the first {self.population:,} children of a search, its population, are random"
        smaller = max(2, round(children / 10))
        if smaller < self.population and self.tournament_share is not None:
            note += f"; with population={smaller} it would begin to choose sooner"
        elif smaller < self.population:
            # A tournament of one chooses nothing.
            drawn = max(2, math.ceil(smaller * self.tournament / self.population))
            note += f"; with population={smaller},tournament={drawn} it would begin to choose sooner"
        return note


@dataclass(frozen=True, kw_only=True)
class LocalSearchOptions:
    """Hill climbing with restarts (spec §4.6)."""

    random_starts: int = 10
    """Random architectures before the first climb; it starts at their best. Each later climb starts at one."""

    def __post_init__(self) -> None:
        if self.random_starts < 1:
            raise ValueError(f"`random_starts` must be at least 1, got {self.random_starts}")
