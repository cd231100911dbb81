"""NEAT's mutations and innovation numbers (Stanley & Miikkulainen 2002, section 3; spec §15)."""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from controller.genomes.genome import Link, origins, reaches, single, start_genome
from controller.genomes.innovations import Innovations, Split
from controller.genomes.mutations import MutationOptions, add_link, add_node, mutate, mutate_weights
from tests.controller.genomes.genomes import grown

START = start_genome(2, 1, [0.75, -1.5])


def test_a_new_node_splits_a_link_with_the_weights_1_and_the_old_one() -> None:
    """Spec T15.2."""
    for seed in range(10):
        genome, change = add_node(START, Innovations.of(START), random.Random(seed))
        (old,) = [link for link in genome.links if not link.enabled]
        assert old.weight == START.by_innovation[old.innovation].weight
        assert genome.hidden == (3,)
        assert genome.links[2:] == (Link(3, old.source, 3, 1.0), Link(4, 3, old.target, old.weight))
        assert change == f"node 3 on link {old.innovation}"


def test_only_enabled_links_are_split() -> None:
    genome = add_node(START, Innovations.of(START), random.Random(0)).genome
    (disabled,) = [link.innovation for link in genome.links if not link.enabled]
    changes = {add_node(genome, Innovations.of(genome), random.Random(seed)).change for seed in range(50)}
    assert changes == {f"node 4 on link {n}" for n in {1, 2, 3, 4} - {disabled}}


def test_the_same_mutation_in_one_generation_has_the_same_numbers() -> None:
    """Spec T15.3."""
    innovations = Innovations(next_link=10, next_node=7)
    assert innovations.split(2) == Split(7, 10, 11)
    assert innovations.link((0, 5, False)) == 12
    assert innovations.split(2) == Split(7, 10, 11)
    assert innovations.split(3) == Split(8, 13, 14)
    assert innovations.link((0, 5, False)) == 12
    assert innovations.link((0, 5, True)) == 15
    assert Innovations(innovations.next_link, innovations.next_node).split(2) == Split(9, 16, 17)


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_new_link_takes_each_free_place_alike(recurrent: bool) -> None:
    genome = add_node(START, Innovations.of(START), random.Random(0)).genome
    (into, _) = genome.links[2:]
    options = MutationOptions(recurrent_link=1.0)
    places = Counter(
        add_link(genome, options, Innovations.of(genome), random.Random(seed), recurrent=recurrent)
        .genome.links[-1]
        .place
        for seed in range(200)
    )
    forward = {(1 - into.source, 3, False)}
    backward = {(source, target, True) for source in (2, 3) for target in (2, 3)}
    assert places.keys() == (backward if recurrent else forward)
    assert min(places.values()) > 25


def test_the_free_places_of_a_large_genome_are_found_with_one_search_for_each_hidden_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genome = grown(seed=3, steps=60)
    searched: list[int] = []

    def counted(links: Iterable[Link], node: int) -> set[int]:
        searched.append(node)
        return origins(links, node)

    monkeypatch.setattr("controller.genomes.mutations.origins", counted)
    places = {
        add_link(genome, MutationOptions(), Innovations.of(genome), random.Random(seed)).change for seed in range(3_000)
    }
    assert searched == list(genome.hidden) * 3_000
    taken = {link.place for link in genome.links}
    free = [
        f"link {source} to {target}"
        for source in (*range(genome.inputs), *genome.hidden)
        for target in genome.neurons
        if (source, target, False) not in taken and not reaches(genome.links, target, source)
    ]
    assert places == set(free)


def test_a_network_that_is_full_gets_no_link() -> None:
    genome, change = add_link(START, MutationOptions(), Innovations.of(START), random.Random(0))
    assert (genome, change) == (START, "")


@pytest.mark.parametrize("recurrent", [False, True])
def test_any_number_of_mutations_gives_a_valid_genome(recurrent: bool) -> None:
    for seed in range(20):
        genome = grown(seed, steps=40, recurrent=recurrent)
        assert genome.problem() is None
        assert len(genome.hidden) > 5
        assert any(link.recurrent for link in genome.links) is recurrent


def test_weights_are_perturbed_or_drawn_again_within_their_limit() -> None:
    genome = start_genome(100, 1, [4.0] * 100)
    weights = [link.weight for link in mutate_weights(genome, MutationOptions(), random.Random(0)).links]
    assert max(weights) == 5.0
    assert all(weight == single(weight) for weight in weights)
    drawn = sum(weight < 1.5 for weight in weights)  # a perturbed weight is at least 4 - 2.5
    assert 3 <= drawn <= 17


def test_mutations_occur_as_often_as_the_options_say() -> None:
    genome = grown(0)
    options = MutationOptions(mutate_weights=0.5, add_node=0.2, add_link=0.1)
    made = [mutate(genome, options, Innovations.of(genome), random.Random(seed)).change for seed in range(1000)]
    for word, share in (("weights", 0.5), ("node", 0.2), ("link ", 0.1 + 0.2)):  # a node is on a link
        assert sum(word in change for change in made) == pytest.approx(1000 * share, rel=0.2)
    assert mutate(genome, MutationOptions(mutate_weights=0, add_node=0, add_link=0), Innovations.of(genome),
                  random.Random(0)) == (genome, "")  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "wish"),
    [
        ("mutate_weights", 1.1, "from 0 to 1"),
        ("add_node", -0.1, "from 0 to 1"),
        ("add_link", float("nan"), "from 0 to 1"),
        ("weight_step", 0.0, "above 0"),
        ("max_weight", float("inf"), "at most 1e"),
    ],
)
def test_impossible_options_are_refused(option: str, value: Any, wish: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be .*{wish}"):
        MutationOptions(**{option: value})
