"""Settings of NEAT; the defaults are the paper's for a population of 150. Standard library only."""

import math
from dataclasses import dataclass

from child_trainer.field_types import check_types
from controller.genomes.mutations import MutationOptions, check_probability


@dataclass(frozen=True, kw_only=True)
class NeatOptions(MutationOptions):
    """NeuroEvolution of Augmenting Topologies (spec §15)."""

    population: int = 150
    """Genomes in a generation (the paper: 150 for XOR, 1,000 for poles without velocities)."""
    excess_weight: float = 1.0
    """Weight of excess links in the distance of two genomes (c1)."""
    disjoint_weight: float = 1.0
    """Weight of disjoint links in the distance (c2)."""
    difference_weight: float = 0.4
    """Weight of the mean difference of weights in the distance (c3; the paper: 3.0 in a large population)."""
    threshold: float = 3.0
    """Distance below which two genomes are of one species (the paper: 4.0 in a large population)."""
    survival: float = 0.2
    """Share of a species, its best, that are parents of the next generation."""
    mutation_only: float = 0.25
    """Share of offspring with one parent, by mutation without crossover."""
    interspecies: float = 0.001
    """Probability that the second parent is of another species."""
    stays_disabled: float = 0.75
    """Probability that a link is disabled in a child if it is in either parent."""
    champion_size: int = 5
    """The best of a species with more members than this is copied unchanged."""
    species_patience: int = 15
    """Generations after which a species that does not improve has no offspring."""
    population_patience: int = 20
    """Generations without any improvement after which only the two best species have offspring."""
    stop_when_solved: bool = True
    """End the search with the generation in which a network solves the task, where the task can say so."""

    def __post_init__(self) -> None:
        check_types(self)
        MutationOptions.__post_init__(self)
        if self.population < 2:
            raise ValueError(f"`population` must be at least 2, got {self.population}")
        for name in ("champion_size", "species_patience", "population_patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("excess_weight", "disjoint_weight", "difference_weight", "threshold"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be 0 or more, got {value}")
        for name in ("survival", "mutation_only", "interspecies", "stays_disabled"):
            check_probability(name, getattr(self, name))

    def caution(self, children: float) -> str | None:
        """Return a warning for a search of less than two generations, as the end of a sentence; `None` otherwise."""
        if children >= 2 * self.population:
            return None
        return f"the first {self.population:,} children of a search, its first generation, have random weights"
