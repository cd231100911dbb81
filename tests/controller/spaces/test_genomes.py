"""The space of genomes (Stanley & Miikkulainen 2002, section 3.1; spec §15)."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from child_trainer.networks.scalar_graph import ScalarGraph
from controller.decisions import InvalidTokens
from controller.genomes.genome import Genome, Link
from controller.space import SearchSpace, genotypes_of, mutated_tokens
from controller.spaces.checks import check_decisions
from controller.spaces.genomes import GenomeSpace
from controller.spaces.recurrent import RecurrentSpace
from tests.contracts.search_space import SearchSpaceContract
from tests.controller.genomes.genomes import grown
from tests.controller.searchers.neat.xor import PATTERNS, xor_outputs

SPACE = GenomeSpace(inputs=2)


class TestFeedForward(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SPACE


class TestRecurrent(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return GenomeSpace(inputs=3, outputs=2, bias=False, recurrent=True)


def test_a_genome_computes_the_same_as_its_network() -> None:
    rng = random.Random(0)
    tokens = SPACE.first(0, rng)
    for _ in range(300):
        tokens = mutated_tokens(SPACE, tokens, rng)
        network = ScalarGraph(SPACE.decode(tokens), {"image": 2})
        outputs = [network(pattern)[0] for pattern in PATTERNS]
        assert outputs == pytest.approx(xor_outputs(SPACE.genome(tokens)), abs=1e-12)
    assert SPACE.genome(tokens).hidden


def test_a_recurrent_link_gives_the_last_value_of_its_source() -> None:
    space = GenomeSpace(inputs=1, bias=False, recurrent=True, slope=1.0)
    links = (Link(1, 0, 2, 1.0), Link(2, 2, 1, 1.0), Link(3, 2, 1, 0.5, recurrent=True))
    network = ScalarGraph(space.network(Genome(1, 1, (2,), links)), {"x": 1, "h": 2})

    def squash(x: float) -> float:
        return ScalarGraph(space.network(Genome(1, 1, (), (Link(1, 0, 1, 1.0),))), {"x": 1, "h": 1})([x], [0.0])[0]

    output, hidden = network([0.3], [0.9, 0.8])
    assert hidden == pytest.approx(squash(0.3))
    assert output == pytest.approx(squash(hidden + 0.5 * 0.8))


def test_disabled_links_are_not_in_the_network() -> None:
    genome = SPACE.genome(SPACE.first(0, random.Random(0)))
    disabled = replace(genome, links=(replace(genome.links[0], enabled=False), *genome.links[1:]))
    weightless = replace(genome, links=(replace(genome.links[0], weight=0.0), *genome.links[1:]))
    networks = [ScalarGraph(SPACE.network(each), {"image": 2}) for each in (disabled, weightless)]
    assert networks[0]([0.4, 0.6]) == networks[1]([0.4, 0.6])
    assert [network.num_weights for network in networks] == [2, 3]


def test_a_neuron_without_links_is_half_on() -> None:
    genome = SPACE.genome(SPACE.first(0, random.Random(0)))
    none = replace(genome, links=tuple(replace(link, enabled=False) for link in genome.links))
    assert ScalarGraph(SPACE.network(none), {"image": 2})([1.0, 1.0]) == [0.5]


def test_the_weights_are_part_of_the_identity_and_the_names_are_not() -> None:
    genome = grown(1, steps=20)
    space = GenomeSpace(inputs=2, outputs=2)
    heavier = replace(genome, links=(replace(genome.links[0], weight=3.0, enabled=True), *genome.links[1:]))
    assert space.network(heavier).id != space.network(genome).id
    shifted = replace(
        genome,
        hidden=tuple(node + 7 for node in genome.hidden),
        links=tuple(
            replace(link, innovation=link.innovation + 3, source=link.source + 7 * (link.source > 4),
                    target=link.target + 7 * (link.target > 4))
            for link in genome.links
        ),
    )  # fmt: skip
    assert space.network(shifted).id == space.network(genome).id


def test_no_tokens_are_the_start_genome_with_weights_of_0() -> None:
    assert {link.weight for link in SPACE.genome(()).links} == {0.0}
    assert ScalarGraph(SPACE.decode(()), {"image": 2})([1.0, 0.0]) == [0.5]


def test_the_genotype_is_json_that_gives_the_genome_back() -> None:
    tokens = SPACE.first(0, random.Random(0))
    assert Genome.from_json(json.loads(genotypes_of(SPACE, tokens)["NEAT"])) == SPACE.genome(tokens)


def test_recurrent_links_are_refused_where_the_space_has_none() -> None:
    genome = SPACE.genome(())
    recurrent = replace(genome, links=(*genome.links, Link(9, 3, 3, 1.0, recurrent=True)))
    with pytest.raises(InvalidTokens, match="no recurrent links"):
        SPACE.decode(recurrent.to_tokens())


def test_a_searcher_that_needs_decisions_refuses_the_space_in_one_sentence() -> None:
    with pytest.raises(
        ValueError, match="'reinforce' chooses decision by decision, and the samples of the space 'genomes'"
    ):
        check_decisions(SPACE, "reinforce")
    check_decisions(RecurrentSpace(), "reinforce")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"inputs": 0}, "`inputs` must be from 1"),
        ({"outputs": 1001}, "`outputs` must be from 1 to 1,000"),
        ({"slope": 0.0}, "`slope` must be a positive number"),
        ({"start_weight": float("nan")}, "`start_weight` must be a positive number"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        GenomeSpace(**options)
