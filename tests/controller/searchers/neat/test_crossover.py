"""Crossover (Stanley & Miikkulainen 2002, section 3.2 and figure 4; spec §15)."""

import random
from dataclasses import replace

import pytest

from controller.genomes.genome import Link
from controller.searchers.neat.crossover import crossover
from tests.controller.genomes.genomes import FIRST, SECOND, grown

SEEDS = range(400)


def test_unmatched_links_come_from_the_fitter_parent() -> None:
    for seed in SEEDS:
        child = crossover(FIRST, SECOND, (1.0, 2.0), 0.75, random.Random(seed))
        assert [link.innovation for link in child.links] == [link.innovation for link in SECOND.links]
        assert child.hidden == SECOND.hidden
        child = crossover(FIRST, SECOND, (2.0, 1.0), 0.75, random.Random(seed))
        assert [link.innovation for link in child.links] == [link.innovation for link in FIRST.links]


def test_matching_links_come_from_either_parent() -> None:
    children = [crossover(FIRST, SECOND, (2.0, 1.0), 0.75, random.Random(seed)) for seed in SEEDS]
    for number in range(1, 6):
        share = sum(child.by_innovation[number].weight == 1.0 for child in children) / len(children)
        assert share == pytest.approx(0.5, abs=0.1)
    assert all(child.by_innovation[8].weight == 1.0 for child in children)


def test_of_equal_parents_unmatched_links_are_inherited_at_random() -> None:
    children = [crossover(FIRST, SECOND, (1.0, 1.0), 0.75, random.Random(seed)) for seed in SEEDS]
    for number in (6, 7, 8, 9, 10):
        share = sum(number in child.by_innovation for child in children) / len(children)
        assert share == pytest.approx(0.5, abs=0.1)
    assert all(child.by_innovation.keys() >= {1, 2, 3, 4, 5} for child in children)


def test_a_link_that_is_disabled_in_either_parent_is_usually_disabled() -> None:
    children = [crossover(FIRST, SECOND, (1.0, 2.0), 0.75, random.Random(seed)) for seed in SEEDS]
    for number, share in ((1, 0.0), (2, 0.75), (5, 0.75), (6, 0.0)):
        disabled = sum(not child.by_innovation[number].enabled for child in children) / len(children)
        assert disabled == pytest.approx(share, abs=0.08)


def test_children_of_equal_parents_are_valid() -> None:
    """The same link may have two numbers, and links of two parents may close a cycle."""
    backward = replace(SECOND, links=(*SECOND.links[:5], Link(11, 5, 4, 1.0), Link(12, 5, 3, 1.0)))
    forward = replace(SECOND, links=(*SECOND.links[:5], Link(13, 4, 5, 1.0), Link(14, 5, 3, 1.0)))
    for seed in SEEDS:
        assert crossover(backward, forward, (1.0, 1.0), 0.75, random.Random(seed)).problem() is None


@pytest.mark.parametrize("recurrent", [False, True])
def test_children_of_any_parents_are_valid(recurrent: bool) -> None:
    for seed in range(20):
        first = grown(seed, recurrent=recurrent)
        second = grown(seed, steps=31, recurrent=recurrent)
        for fitnesses in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
            assert crossover(first, second, fitnesses, 0.75, random.Random(seed)).problem() is None
