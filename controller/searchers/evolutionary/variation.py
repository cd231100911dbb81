"""How evolution makes a child of its parents: mutation and crossover (spec §4.2, §19)."""

import random

from controller.decisions import Choice, Tokens, offsets, repaired
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.space import HasCells, HasLayers, SearchSpace, decision_label, mutated_tokens
from controller.spaces.checks import space_words

MAX_CHANGES_NAMED = 2
"""Changed decisions that a child's description names."""


def check_space(space: SearchSpace, options: EvolutionOptions) -> None:
    """Raise `ValueError` if the space lacks what an option needs."""
    name = space_words(space)
    if options.crossover and not space.decisions(0):
        raise ValueError(
            f"`crossover` must be 0, as the samples of {name} have no fixed sequence of decisions, got"
            f" {options.crossover}"
        )
    if options.crossover and options.crossover_kind == "cells":
        num_tokens = offsets(space.decisions(0))[-1]
        if not isinstance(space, HasCells) or len(space.cells(num_tokens)) < 2:
            raise ValueError(f"`crossover_kind` must be `one-point`, as {name} has no two cells to swap, got `cells`")
    if options.layer_changes and not isinstance(space, HasLayers):
        raise ValueError(
            f"`layer_changes` must be 0, as {name} has no layers to add or remove, got {options.layer_changes}"
        )


def mutation(space: SearchSpace, tokens: Tokens, options: EvolutionOptions, rng: random.Random) -> Tokens:
    """Return the tokens with one change: a layer more or less with probability `layer_changes`, else another value.

    Where the network has no room for the layer, or has as few as the space allows, a value changes.
    """
    changed = None
    if options.layer_changes and rng.random() < options.layer_changes:
        assert isinstance(space, HasLayers)
        changed = space.with_layer(tokens, rng) if rng.random() < 0.5 else space.without_layer(tokens, rng)
    return mutated_tokens(space, tokens, rng) if changed is None else changed


def crossover(
    space: SearchSpace, first: Tokens, second: Tokens, options: EvolutionOptions, rng: random.Random
) -> Tokens:
    """Return a child of two parents, as long as the first.

    `one-point`: the first parent's decisions before a random place, the second's from there on. `cells`: each cell from
    one of the parents, so that both give at least one. Where the second parent is too short the first one's tokens
    stay. Decisions that the child cannot have are repaired.
    """
    decisions = space.decisions_of(len(first))
    donor = (*second[: len(first)], *first[len(second) :])
    if options.crossover_kind == "cells":
        assert isinstance(space, HasCells)
        cells = list(space.cells(len(first)).values())
        given = rng.sample(cells, rng.randrange(1, len(cells)))
        child = list(first)
        for cell in given:
            for position in cell:
                child[position] = donor[position]
    else:
        places = sorted(set(offsets(decisions)) - {0, len(first)})
        cut = rng.choice(places) if places else 0
        child = [*first[:cut], *donor[cut:]]
    return repaired(decisions, child)


def describe_change(space: SearchSpace, before: Tokens, after: Tokens) -> str:
    """Return what differs between a parent and its child, such as `edge 3: skip_connect to none`."""
    if not space.decisions(0):
        return "mutation"
    if len(before) != len(after):
        return "a layer added" if len(after) > len(before) else "a layer removed"
    decisions = space.decisions_of(len(before))
    changes: list[str] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        old, new = (tokens[start : start + decision.width] for tokens in (before, after))
        if old == new:
            continue
        label = decision_label(space, decision)
        if isinstance(decision, Choice):
            label += f": {decision.options[old[0]]} to {decision.options[new[0]]}"
        changes.append(label)
    if len(changes) > MAX_CHANGES_NAMED:
        return f"{', '.join(changes[:MAX_CHANGES_NAMED])} and {len(changes) - MAX_CHANGES_NAMED} more"
    return ", ".join(changes) or "unchanged"
