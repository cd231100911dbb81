"""Settings of evolution and local search. Standard library only."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from child_trainer.field_types import check_types

MAX_TOURNAMENT_SIZE = 100_000
"""Upper bound for `tournament`; with a larger one a choice would take longer than a training."""


PAPERS_POPULATION = 100
PAPERS_TOURNAMENT = 25
"""Real et al. 2019's sizes, for searches of a thousand children or more."""


@dataclass(frozen=True, kw_only=True)
class EvolutionOptions:
    """AmoebaNet's evolution (spec §4.2), and the variants of spec §19."""

    population: int | None = None
    """Members of the population (P); the search starts with as many random ones. Unset: a tenth of the search's
    children, 10 to 100 (the paper: 100)."""
    tournament: int | None = None
    """Members drawn for a tournament (S), with replacement; the best becomes the parent. Unset: half of the population,
    at most 25 (the paper: 25)."""
    tournament_share: float | None = None
    """Share of the present population drawn for a tournament, rounded up, in place of `tournament` members."""
    selection: Literal["tournament", "roulette", "truncation"] = "tournament"
    """How a parent is selected: the best of a tournament; by its reward above the lowest (roulette); or any of as many
    of the best as a tournament has members (truncation)."""
    unchanged: float = 0.05
    """Probability that a child is not mutated: a copy of its parent (without effect if repeats are refused)."""
    repeats: Literal["allowed", "refused"] = "allowed"
    """Whether an architecture may be tried again (the paper: allowed); a repeat that is refused is mutated until it is
    new, which is worth it where a child's reward hardly varies."""
    crossover: float = 0.0
    """Probability that a child has two parents; it is mutated as well."""
    crossover_kind: Literal["one-point", "cells"] = "one-point"
    """What a child has of its second parent: the decisions from a random place on, or whole cells."""
    layer_changes: float = 0.0
    """Share of mutations that add or remove a layer, on a space of layers; the others change a decision."""
    dies: Literal["oldest", "worst", "lowest", "none"] = "oldest"
    """Which member a child replaces; the oldest (aging evolution), the worst of a tournament, the one with the lowest
    reward of all, or none: the population grows (hierarchical evolution, spec §8.2)."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("population", "tournament"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        if self.tournament is not None and self.tournament > MAX_TOURNAMENT_SIZE:
            raise ValueError(f"`tournament` must be at most {MAX_TOURNAMENT_SIZE:,}, got {self.tournament}")
        if self.tournament_share is not None and not 0 < self.tournament_share <= 1:
            raise ValueError(f"`tournament_share` must be above 0 and at most 1, got {self.tournament_share}")
        for name in ("unchanged", "crossover", "layer_changes"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be from 0 to 1, got {getattr(self, name)}")

    @property
    def capacity(self) -> int:
        """The members of a full population."""
        return PAPERS_POPULATION if self.population is None else self.population

    def for_children(self, children: int) -> "EvolutionOptions":
        """Return the options for a search of so many children: with a population, if none is given."""
        if self.population is not None:
            return self
        tenth = max(round(children / 10), min(10, children // 2), 1)
        return replace(self, population=min(PAPERS_POPULATION, tenth))

    def drawn(self, members: int) -> int:
        """Return how many members are drawn for a tournament in a population of so many."""
        if self.tournament_share is not None:
            return math.ceil(self.tournament_share * members)
        if self.tournament is not None:
            return self.tournament
        return min(PAPERS_TOURNAMENT, math.ceil(self.capacity / 2))

    def caution(self, children: float) -> str | None:
        """Return a warning for a search with so few children, as the end of a sentence; `None` if there are enough.

        Evolution whose population is most of the search is little else than random search.
        """
        if self.population is None or self.population <= children / 2:
            return None
        note = f"the first {self.population:,} children of a search, its population, are random"
        smaller = max(2, round(children / 10))
        if smaller < self.population and self.tournament_share is not None:
            note += f"; with population={smaller} it would begin to choose sooner"
        elif smaller < self.population:
            # A tournament of one chooses nothing.
            drawn = max(2, math.ceil(smaller * self.drawn(self.population) / self.population))
            note += f"; with population={smaller},tournament={drawn} it would begin to choose sooner"
        return note


@dataclass(frozen=True, kw_only=True)
class LocalSearchOptions:
    """Hill climbing with restarts (spec §4.6)."""

    random_starts: int = 10
    """Random architectures before the first climb; it starts at their best. Each later climb starts at one."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.random_starts < 1:
            raise ValueError(f"`random_starts` must be at least 1, got {self.random_starts}")
