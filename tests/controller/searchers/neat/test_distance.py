"""The compatibility distance (Stanley & Miikkulainen 2002, section 3.3; spec §15, T15.1)."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from neat.genes import DefaultConnectionGene
from neat.genome import DefaultGenome

from controller.genomes.genome import Genome, Link, start_genome
from controller.searchers.neat.distance import Alignment, align, distance
from controller.searchers.neat.options import NeatOptions
from tests.controller.genomes.genomes import FIRST, SECOND, grown


def test_the_papers_parents_have_5_matching_3_disjoint_and_2_excess_links() -> None:
    """Spec G17."""
    assert align(FIRST, SECOND) == Alignment(matching=5, disjoint=3, excess=2, weight_difference=3.0)
    assert align(SECOND, FIRST) == align(FIRST, SECOND)


def test_the_distance_is_the_papers_formula() -> None:
    """Spec T15.1: c1 E / N + c2 D / N + c3 W; N is 1 for small genomes."""
    assert distance(FIRST, SECOND, NeatOptions()) == pytest.approx(1 * 2 + 1 * 3 + 0.4 * 3.0, rel=1e-12)
    options = NeatOptions(excess_weight=2.0, disjoint_weight=0.5, difference_weight=3.0)
    assert distance(FIRST, SECOND, options) == pytest.approx(2 * 2 + 0.5 * 3 + 3 * 3.0, rel=1e-12)


def test_between_larger_genomes_the_number_of_links_divides() -> None:
    large = start_genome(20, 1, [0.0] * 20)
    larger = replace(large, links=(*large.links, *(Link(n, 20, 20, 1.0, recurrent=True) for n in (25,))))
    assert distance(large, larger, NeatOptions()) == pytest.approx(1 / 21, rel=1e-12)


def test_a_genome_is_no_distance_from_itself_and_distances_are_symmetric() -> None:
    genomes = [grown(seed) for seed in range(6)]
    for a in genomes:
        assert distance(a, a, NeatOptions()) == 0
        for b in genomes:
            assert distance(a, b, NeatOptions()) == distance(b, a, NeatOptions())


def theirs(genome: Genome) -> DefaultGenome:
    """The links as neat-python has them, by their innovation numbers; without nodes, which it compares, too."""
    made = DefaultGenome(0)
    for link in genome.links:
        gene = DefaultConnectionGene((link.innovation, 0), innovation=link.innovation)
        gene.weight, gene.enabled = link.weight, True
        made.connections[gene.key] = gene
    return made


def test_it_is_neat_pythons_distance_with_its_constants() -> None:
    """neat-python tells disjoint from excess links no more, always divides, and sums the differences of weights."""
    config = SimpleNamespace(compatibility_disjoint_coefficient=1.0, compatibility_weight_coefficient=0.4)
    for seed in range(30):
        first, second = grown(seed), grown(seed + 100, steps=40)
        size = max(len(first.links), len(second.links))
        assert size >= 20
        matching = align(first, second).matching
        options = NeatOptions(difference_weight=0.4 * matching / size)
        assert distance(first, second, options) == pytest.approx(theirs(first).distance(theirs(second), config))
