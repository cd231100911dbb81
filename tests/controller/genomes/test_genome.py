import json
import random
from dataclasses import replace

import pytest

from controller.decisions import InvalidTokens
from controller.genomes.genome import Genome, Link, random_start, reaches, single, start_genome
from tests.controller.genomes.genomes import FIRST, SECOND, grown


@pytest.mark.parametrize("recurrent", [False, True])
def test_tokens_and_json_give_the_genome_back_to_the_bit(recurrent: bool) -> None:
    for seed in range(10):
        genome = grown(seed, recurrent=recurrent)
        assert genome.problem() is None
        tokens = genome.to_tokens()
        assert all(0 <= token < 2**32 for token in tokens)
        assert Genome.from_tokens(json.loads(json.dumps(tokens)), inputs=3, outputs=2) == genome
        assert Genome.from_json(json.loads(json.dumps(genome.to_json()))) == genome


def test_a_start_genome_connects_all_inputs_with_all_outputs() -> None:
    genome = start_genome(2, 2, [0.5, 1.0, 1.5, 2.0])
    assert [(link.innovation, link.source, link.target, link.weight) for link in genome.links] == [
        (1, 0, 2, 0.5),
        (2, 0, 3, 1.0),
        (3, 1, 2, 1.5),
        (4, 1, 3, 2.0),
    ]
    assert genome.hidden == ()


def test_weights_are_float32_numbers() -> None:
    genome = random_start(3, 1, 1.0, random.Random(0))
    assert all(link.weight == single(link.weight) for link in genome.links)


def test_a_node_reaches_itself_and_what_forward_links_lead_to() -> None:
    links = [Link(1, 0, 1, 1.0), Link(2, 1, 2, 1.0), Link(3, 2, 3, 1.0, recurrent=True)]
    assert reaches(links, 0, 2)
    assert reaches(links, 1, 1)
    assert not reaches(links, 2, 0)
    assert not reaches(links, 0, 3)


@pytest.mark.parametrize("genome", [FIRST, SECOND])
def test_the_papers_genomes_are_valid(genome: Genome) -> None:
    assert genome.problem() is None


START = start_genome(2, 1, [0.0, 0.0])
LINK = START.links[0]


@pytest.mark.parametrize(
    ("genome", "problem"),
    [
        (replace(START, links=()), "at least one link"),
        (replace(START, hidden=(4, 3)), r"hidden nodes must ascend, got \[4, 3\]"),
        (replace(START, hidden=(2,)), "hidden nodes have numbers from 3, got 2"),
        (replace(START, links=START.links[::-1]), r"must ascend, got \[2, 1\]"),
        (replace(START, links=(replace(LINK, target=1),)), "connects 0 with 1, which a link cannot"),
        (replace(START, links=(replace(LINK, source=9),)), "connects 9 with 2, which a link cannot"),
        (replace(START, links=(replace(LINK, weight=float("inf")),)), "must be finite, got inf"),
        (replace(START, links=(*START.links, replace(LINK, innovation=3))), "two links connect the same nodes"),
        (replace(START, links=(*START.links, Link(3, 2, 2, 1.0))), "the forward links form a cycle"),
    ],
)
def test_what_is_no_genome_is_refused(genome: Genome, problem: str) -> None:
    with pytest.raises(InvalidTokens, match=problem):
        Genome.from_tokens(genome.to_tokens(), inputs=2, outputs=1)
    with pytest.raises(ValueError, match=problem):
        Genome.from_json(genome.to_json())


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        ((), "none"),
        ((-1,), "-1"),
        ((5,), "5 hidden nodes takes 6 tokens and 5 for each link, got 1"),
        ((0, 1, 0, 2, 4, 0), "token 4 must be at most 3"),
        ((0, 1, 0, 2, 1, 2**32), r"token 5 below 2\^32"),
    ],
)
def test_tokens_that_write_no_genome_are_refused(tokens: tuple[int, ...], problem: str) -> None:
    with pytest.raises(InvalidTokens, match=problem):
        Genome.from_tokens(tokens, inputs=2, outputs=1)


def test_a_recurrent_link_closes_no_cycle() -> None:
    genome = replace(START, links=(*START.links, Link(3, 2, 2, 1.0, recurrent=True)))
    assert genome.problem() is None
