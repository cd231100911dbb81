"""How evolution selects parents and survivors. Standard library only, as are the options."""

import random
from collections.abc import Sequence

from controller.searcher import ChildRecord
from controller.searchers.evolutionary.options import EvolutionOptions

Members = Sequence[ChildRecord]
"""The members of a population, the oldest first."""


def reward_of(child: ChildRecord) -> float:
    """Return the reward of a child that the searcher may learn from."""
    assert child.reward is not None, f"child {child.id} has no reward"
    return child.reward


def select_parent(population: Members, options: EvolutionOptions, rng: random.Random) -> ChildRecord:
    """Return the member from which the next child is made (spec §19).

    `tournament`: the best of a few that are drawn with replacement. `truncation`: one of as many of the best, each with
    equal probability. `roulette`: one with a probability proportional to its reward's distance to the lowest reward.
    """
    if options.selection == "tournament":
        return max(_drawn(population, options, rng), key=reward_of)
    if options.selection == "truncation":
        best = sorted(population, key=reward_of, reverse=True)
        return rng.choice(best[: options.drawn(len(population))])
    lowest = min(map(reward_of, population))
    weights = [reward_of(member) - lowest for member in population]
    return rng.choices(population, weights if any(weights) else None)[0]


def survivors(
    population: tuple[ChildRecord, ...], child: ChildRecord, options: EvolutionOptions
) -> tuple[ChildRecord, ...]:
    """Return the population, the oldest member first, after `child` has ended with a reward.

    The child joins the population. If that is full, a member is removed: its oldest, the loser of a tournament, or the
    one with the lowest reward, which may be the child itself; of equal ones the oldest.
    """
    if options.dies == "none" or len(population) < options.capacity:
        return (*population, child)
    if options.dies == "oldest":
        return (*population[1:], child)
    if options.dies == "lowest":
        everyone = (*population, child)
        worst = min(everyone, key=reward_of)
        return tuple(member for member in everyone if member is not worst)
    # Seeded by the child that ended, so that every replica removes the same member.
    rng = random.Random(child.outcome.seed if child.outcome else child.id)
    worst = min(_drawn(population, options, rng), key=reward_of)
    return (*(member for member in population if member is not worst), child)


def _drawn(population: Members, options: EvolutionOptions, rng: random.Random) -> list[ChildRecord]:
    """Draw the members that compete in a tournament, with replacement."""
    return rng.choices(population, k=options.drawn(len(population)))
