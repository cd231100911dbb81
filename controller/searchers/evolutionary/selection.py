"""How evolution selects parents and survivors. Standard library only, as are the options."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from controller.objectives import Cost, point_of
from controller.pareto import preference
from controller.searcher import ChildRecord, reward_of
from controller.searchers.evolutionary.options import EvolutionOptions

Members = Sequence[ChildRecord]
"""The members of a population, the oldest first."""


Key = Callable[[ChildRecord], Any]
"""Returns what members are compared by: the higher, the better."""


def key_among(members: Members, costs: Sequence[Cost]) -> Key:
    """Return what these members are compared by: their rewards or, with costs, their Pareto ranks.

    The objectives are then the reward and the costs. Of equal rank the less crowded is better (Deb et al. 2002,
    NSGA-II), and a member that lacks a cost is worse than any that has all.
    """
    if not costs:
        return reward_of
    keys = preference([point_of(member, costs) for member in members])
    of_member = {id(member): key for member, key in zip(members, keys, strict=True)}
    return lambda member: of_member[id(member)]


def select_parent(
    population: Members, options: EvolutionOptions, rng: random.Random, key: Key = reward_of
) -> ChildRecord:
    """Return the member from which the next child is made (spec §19).

    `tournament`: the best of a few that are drawn with replacement. `truncation`: one of as many of the best, each with
    equal probability. `roulette`: one with a probability proportional to its reward's distance to the lowest reward.
    """
    if options.selection == "tournament":
        return max(_drawn(population, options, rng), key=key)
    if options.selection == "truncation":
        best = sorted(population, key=key, reverse=True)
        return rng.choice(best[: options.drawn(len(population))])
    lowest = min(map(reward_of, population))
    weights = [reward_of(member) - lowest for member in population]
    return rng.choices(population, weights if any(weights) else None)[0]


def survivors(
    population: tuple[ChildRecord, ...], child: ChildRecord, options: EvolutionOptions, costs: Sequence[Cost] = ()
) -> tuple[ChildRecord, ...]:
    """Return the population, the oldest member first, after `child` has ended with a reward.

    The child joins the population. If that is full, a member is removed: its oldest, the loser of a tournament, or the
    worst of all, which may be the child itself: then it is `population` that is returned. Of equal ones it is the
    oldest. They are compared by `key_among`.
    """
    if options.dies == "none" or len(population) < options.capacity:
        return (*population, child)
    if options.dies == "oldest":
        return (*population[1:], child)
    if options.dies == "lowest":
        everyone = (*population, child)
        worst = min(everyone, key=key_among(everyone, costs))
        if worst is child:
            return population
        return tuple(member for member in everyone if member is not worst)
    # Seeded by the child that ended, so that every replica removes the same member.
    rng = random.Random(child.outcome.seed if child.outcome else child.id)
    worst = min(_drawn(population, options, rng), key=key_among(population, costs))
    return (*(member for member in population if member is not worst), child)


def survivors_of_all(
    population: Members, children: Sequence[ChildRecord], options: EvolutionOptions, costs: Sequence[Cost] = ()
) -> tuple[ChildRecord, ...]:
    """Return the population after these children have ended with a reward, one after another, as `survivors` does."""
    if options.dies == "oldest":  # a long history leaves the last ones, however many came before
        return (*population, *children)[-options.capacity :]
    members = tuple(population)
    for child in children:
        members = survivors(members, child, options, costs)
    return members


def _drawn(population: Members, options: EvolutionOptions, rng: random.Random) -> list[ChildRecord]:
    """Draw the members that compete in a tournament, with replacement."""
    return rng.choices(population, k=options.drawn(len(population)))
