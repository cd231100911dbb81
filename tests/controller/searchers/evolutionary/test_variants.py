"""What users tune in evolution: sizes, repeats, selection, survivors, crossover, layers and lineage (spec §19)."""

import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from controller.catalogue import SEARCHERS
from controller.decisions import Tokens, check_tokens, offsets, repaired, uniform
from controller.searcher import ChildRecord
from controller.searchers.evolutionary.evolution import Evolution, Population
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.evolutionary.selection import select_parent
from controller.searchers.evolutionary.variation import crossover, describe_change, mutation
from controller.searchers.random_search import RandomSearch
from controller.space import SearchSpace, first_tokens
from controller.spaces.cells import AmoebaNetSpace, PnasSpace
from controller.spaces.chain import ChainSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.hierarchical import HierarchicalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace
from tests.controller.searchers.bit_strings import BitStrings, ToySearch
from tests.controller.searchers.evolutionary.test_evolution import SPACE, Search, ended

LAYERED = ConvolutionalSpace(initial_depth=2, max_depth=6, layer_types=("conv", "pool"), child_learning_rates=(0.1, 1))
PLAIN = ConvolutionalSpace(initial_depth=2, max_depth=6, skip_connections=False)


@dataclass(frozen=True)
class TwoCells(NasBench201Space):
    """Edges 1 to 3 are the one cell, 4 to 6 the other."""

    def cells(self, num_tokens: int) -> Mapping[str, Sequence[int]]:
        return {"normal": range(3), "reduction": range(3, 6)}


def members(*rewards: float) -> list[ChildRecord]:
    return [ended(i, (i % 5, *[0] * 5), reward) for i, reward in enumerate(rewards)]


@pytest.mark.parametrize(
    ("children", "population", "tournament"),
    [(20_000, 100, 25), (1_000, 100, 25), (500, 50, 25), (200, 20, 10), (60, 10, 5), (12, 6, 3), (1, 1, 1)],
)
def test_sizes_that_are_not_given_follow_from_the_budget(children: int, population: int, tournament: int) -> None:
    options = EvolutionOptions().for_children(children)
    assert (options.population, options.drawn(population)) == (population, tournament)
    assert EvolutionOptions(population=7, tournament=3).for_children(children).population == 7
    assert EvolutionOptions(population=7, tournament=3).for_children(children).drawn(7) == 3


def test_without_a_budget_the_sizes_are_the_papers() -> None:
    assert (EvolutionOptions().capacity, EvolutionOptions().drawn(100)) == (100, 25)


def test_a_search_begins_with_as_many_random_children_as_its_budget_says() -> None:
    run, have_parents = Search(SEARCHERS["evolution"].build(SPACE, EvolutionOptions(), children=60)), []
    for _ in range(20):
        (proposal,) = run.step()
        have_parents.append("parent" in proposal.notes)
        run.end(proposal.tokens)
    assert have_parents == [False] * 10 + [True] * 10


def test_no_architecture_is_tried_again_if_repeats_are_refused() -> None:
    def different(repeats: Any) -> int:
        options = EvolutionOptions(population=10, tournament=10, unchanged=0.5, repeats=repeats)
        return len({child.tokens for child in Search(Evolution(SPACE, options)).run(150).history})

    assert different("refused") == 150
    assert different("allowed") < 120


def test_what_is_in_training_is_a_repeat_too() -> None:
    run = Search(Evolution(SPACE, EvolutionOptions(population=1, repeats="refused")))
    run.end((0,) * 6)
    pending = [ended(9, proposal.tokens, None) for proposal in run.step(20)]
    more = [proposal.tokens for proposal in run.step(20, pending)]
    assert len({*more, *(child.tokens for child in pending), (0,) * 6}) == 41


def test_refusing_repeats_makes_a_searcher_exclusive() -> None:
    assert Evolution(SPACE, EvolutionOptions(repeats="refused")).exclusive
    assert not Evolution(SPACE, EvolutionOptions()).exclusive


def test_a_space_that_is_used_up_is_tried_again() -> None:
    options = EvolutionOptions(population=2, repeats="refused")
    history = ToySearch(Evolution(BitStrings(length=3), options), 0).run(12).history
    assert len({child.tokens for child in history[:8]}) == 8


def test_truncation_selects_any_of_the_best() -> None:
    population, rng = members(0.1, 0.9, 0.5, 0.7, 0.3), random.Random(0)
    options = EvolutionOptions(population=5, tournament=2, selection="truncation")
    chosen = Counter(select_parent(population, options, rng).reward for _ in range(4_000))
    assert set(chosen) == {0.9, 0.7}
    assert chosen[0.9] / 4_000 == pytest.approx(0.5, abs=0.04)


def test_roulette_selects_by_the_reward_above_the_lowest() -> None:
    population, rng = members(0.5, 0.6, 0.8), random.Random(0)
    options = EvolutionOptions(selection="roulette")
    chosen = Counter(select_parent(population, options, rng).reward for _ in range(4_000))
    assert set(chosen) == {0.6, 0.8}
    assert chosen[0.8] / 4_000 == pytest.approx(0.75, abs=0.04)
    equal = Counter(select_parent(members(0.5, 0.5), options, rng).id for _ in range(4_000))
    assert equal[0] / 4_000 == pytest.approx(0.5, abs=0.04)


def test_survivors_by_fitness_are_the_best_of_all() -> None:
    options = EvolutionOptions(population=7, dies="lowest")
    rng = random.Random(2)
    history = members(*(rng.random() for _ in range(40)))
    for count in range(1, 41):
        alive = Population(options).after(history[:count])
        best = sorted(history[:count], key=lambda child: child.reward or 0, reverse=True)[:7]
        assert sorted(child.id for child in alive) == sorted(child.id for child in best)
        assert [child.id for child in alive] == sorted(child.id for child in alive)


@pytest.mark.parametrize("selection", ["tournament", "roulette", "truncation"])
@pytest.mark.parametrize("dies", ["oldest", "worst", "lowest"])
def test_every_kind_of_selection_makes_progress(selection: Any, dies: Any) -> None:
    options = EvolutionOptions(population=20, tournament=5, selection=selection, dies=dies)
    history = Search(Evolution(SPACE, options)).run(300).history
    assert statistics.fmean(child.reward or 0 for child in history[-50:]) > 0.4  # random ones have 0.2


def test_one_point_crossover_has_a_head_of_one_parent_and_a_tail_of_the_other() -> None:
    rng, options = random.Random(0), EvolutionOptions(crossover=1.0)
    children = {crossover(SPACE, (0,) * 6, (1,) * 6, options, rng) for _ in range(200)}
    assert children == {(0,) * cut + (1,) * (6 - cut) for cut in range(1, 6)}


def test_crossover_of_conditional_decisions_and_of_unequal_depths_is_a_sample() -> None:
    rng, options = random.Random(0), EvolutionOptions(crossover=1.0)
    space = ConvolutionalSpace(initial_depth=2, depth_interval=1, layer_types=("conv", "pool"))
    for _ in range(300):
        first, second = (uniform(space.decisions(rng.randrange(4)), rng) for _ in range(2))
        child = crossover(space, first, second, options, rng)
        assert len(child) == len(first)
        check_tokens(space.decisions_of(len(child)), child)


def test_cells_are_swapped_whole() -> None:
    rng, options = random.Random(0), EvolutionOptions(crossover=1.0, crossover_kind="cells")
    space = TwoCells(cells_per_stage=1)
    children = {crossover(space, (0,) * 6, (1,) * 6, options, rng) for _ in range(50)}
    assert children == {(0, 0, 0, 1, 1, 1), (1, 1, 1, 0, 0, 0)}


def test_the_cells_of_amoebanet_are_swapped() -> None:
    """Each cell's half of the tokens is from one parent, so that the genotype has one cell of each."""
    space, rng = AmoebaNetSpace(), random.Random(0)
    options = EvolutionOptions(crossover=1.0, crossover_kind="cells")
    first, second = (uniform(space.decisions(0), rng) for _ in range(2))
    children = {crossover(space, first, second, options, rng) for _ in range(20)}
    cells = {(space.genotype_of(child).normal, space.genotype_of(child).reduction) for child in children}
    one, other = space.genotype_of(first), space.genotype_of(second)
    assert cells == {(one.normal, other.reduction), (other.normal, one.reduction)}


def test_amoebanets_mutation_changes_one_input_or_operation() -> None:
    """Spec §4.2: by another state, or another operation, of one slot of one block of one cell; each kind half."""
    space, rng = AmoebaNetSpace(), random.Random(0)
    parent, counts = uniform(space.decisions(0), rng), Counter[str]()
    for _ in range(1_000):
        child = mutation(space, parent, EvolutionOptions(), rng)
        (changed,) = [c for c, a, b in zip(space.decisions(0), parent, child, strict=True) if a != b]
        counts["input" if "input" in changed.kind else "operation"] += 1
    assert counts["input"] / 1_000 == pytest.approx(0.5, abs=0.05)


def test_a_chain_gets_a_layer_and_loses_one() -> None:
    space, rng, options = ChainSpace(), random.Random(0), EvolutionOptions(crossover=1.0)
    for _ in range(100):
        first, second = (uniform(space.decisions(0), rng) for _ in range(2))
        for changed, difference in ((space.with_layer(first, rng), 1), (space.without_layer(first, rng), -1)):
            if changed is not None:
                check_tokens(space.decisions(0), changed)
                assert length(space, changed) == length(space, first) + difference
        check_tokens(space.decisions(0), crossover(space, first, second, options, rng))
    longest = space.tokens_of(" ".join(["C(64,3,1)"] * space.max_layers))
    assert space.with_layer(longest, rng) is None
    assert space.without_layer(space.tokens_of("SM"), rng) is None


def length(space: ChainSpace, tokens: Tokens) -> int:
    return len(space.genotypes(tokens)["MetaQNN"].split()) - 1


def test_a_repaired_sample_is_one_and_a_sample_stays() -> None:
    rng, decisions = random.Random(0), LAYERED.decisions(0)
    for _ in range(200):
        sample = uniform(decisions, rng)
        assert repaired(decisions, sample) == sample
        check_tokens(decisions, repaired(decisions, [rng.randrange(9) for _ in sample]))


@pytest.mark.parametrize("space", [LAYERED, PLAIN])
def test_a_layer_is_added_and_removed_and_the_others_stay(space: ConvolutionalSpace) -> None:
    rng = random.Random(0)
    sizes = set[int]()
    tokens = uniform(space.decisions(0), rng)
    for _ in range(300):
        add = rng.random() < 0.5
        changed = space.with_layer(tokens, rng) if add else space.without_layer(tokens, rng)
        depth = depth_of(space, tokens)
        sizes.add(depth)
        assert (changed is None) == (depth == (6 if add else 2))
        if changed is not None:
            check_tokens(space.decisions_of(len(changed)), changed)
            assert depth_of(space, changed) == depth + (1 if add else -1)
            fewer, more = sorted((operations(space, tokens), operations(space, changed)), key=len)
            assert any(more[:i] + more[i + 1 :] == fewer for i in range(len(more)))
            tokens = changed
    assert sizes == {2, 3, 4, 5, 6}


def depth_of(space: ConvolutionalSpace, tokens: Tokens) -> int:
    return len(operations(space, tokens))


def operations(space: ConvolutionalSpace, tokens: Tokens) -> list[Any]:
    """The layers of the network, without their inputs."""
    nodes = [node for node in space.decode(tokens).nodes if node.name.startswith("layer")]
    return [(node.op, node.attributes) for node in nodes]


def test_the_layer_after_a_new_one_reads_it() -> None:
    space = ConvolutionalSpace(initial_depth=2, max_depth=3)
    grown = {space.with_layer(uniform(space.decisions(0), random.Random(i)), random.Random(i)) for i in range(50)}
    for tokens in grown:
        assert tokens is not None
        start = offsets(space.decisions_of(len(tokens)))
        assert len(tokens) == start[-1] == 3 * 3 + 3


def test_a_share_of_mutations_changes_the_layers() -> None:
    options = EvolutionOptions(population=1, unchanged=0.0, layer_changes=0.5)
    space = ConvolutionalSpace(initial_depth=2, max_depth=6)
    run = Search(Evolution(space, options), space, reward=lambda tokens: 0.5)
    four = space.with_layer(space.with_layer((0,) * 7, random.Random(0)) or (), random.Random(0)) or ()
    run.end(four)
    sizes = Counter(len(proposal.tokens) - len(four) for proposal in run.step(2_000))
    assert sizes[0] / 2_000 == pytest.approx(0.5, abs=0.05)
    assert sizes[3 + 4] / 2_000 == pytest.approx(0.25, abs=0.05)
    assert sizes[-3 - 3] / 2_000 == pytest.approx(0.25, abs=0.05)


def test_the_notes_tell_the_parent_and_the_change() -> None:
    run = Search(Evolution(SPACE, EvolutionOptions(population=1, tournament=1, unchanged=0.2)))
    run.end((0, 1, 2, 3, 4, 0))
    changes = {proposal.notes["change"] for proposal in run.step(500) if proposal.notes["parent"] == 1}
    assert {"unchanged", "edge 1: none to skip_connect"} < changes
    assert len(changes) == 25


def test_the_notes_tell_both_parents_of_a_crossover() -> None:
    run = Search(Evolution(SPACE, EvolutionOptions(population=2, tournament=1, unchanged=1.0, crossover=1.0)))
    run.end((0,) * 6)
    run.end((1,) * 6)
    parents = {(p.notes["parent"], p.notes["other_parent"]) for p in run.step(100)}
    assert parents == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_a_change_of_much_is_described_in_short() -> None:
    three = describe_change(SPACE, (0,) * 6, (1, 1, 1, 0, 0, 0))
    assert three == "edge 1: none to skip_connect, edge 2: none to skip_connect and 1 more"
    assert describe_change(LAYERED, *deeper()) == "a layer added"
    assert describe_change(LAYERED, *reversed(deeper())) == "a layer removed"
    space = ConvolutionalSpace(initial_depth=2)
    assert describe_change(space, (0,) * 7, (0,) * 6 + (1,)) == "skip of layer 2"
    assert describe_change(space, (0,) * 7, (1,) + (0,) * 6) == "filter height of layer 1: 1 to 3"


def test_a_change_names_the_place_as_the_space_does() -> None:
    hierarchical, cells, recurrent = HierarchicalSpace(), AmoebaNetSpace(), RecurrentSpace()

    def change(space: SearchSpace, position: int) -> str:
        before = first_tokens(space, 0, random.Random(0))
        after = list(before)
        after[position] = 1 - min(1, before[position])
        old, new = (space.decisions(0)[position].options[t] for t in (before[position], after[position]))
        return describe_change(space, before, tuple(after)).removesuffix(f": {old} to {new}")

    assert change(hierarchical, 6) == "level 2 edge 1 2 of motif 2"
    assert change(hierarchical, -1) == "cell edge 4 5"
    assert change(cells, 4) == "normal first input of block 2"
    assert change(recurrent, 3) == "activation of node 1"


def deeper() -> tuple[Tokens, Tokens]:
    tokens = uniform(LAYERED.decisions(0), random.Random(0))
    return tokens, LAYERED.with_layer(tokens, random.Random(0)) or ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_changes": 0.1}, "`layer_changes` must be 0, as the space 'nasbench201' has no layers"),
        (
            {"crossover": 0.1, "crossover_kind": "cells"},
            "`crossover_kind` must be `one-point`, as the space 'nasbench201' has",
        ),
    ],
)
def test_a_space_without_what_an_option_needs_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evolution(SPACE, EvolutionOptions(**options))


def test_a_space_of_one_cell_has_none_to_swap() -> None:
    with pytest.raises(ValueError, match="as the space 'pnas' has no two cells to swap, got `cells`"):
        Evolution(PnasSpace(), EvolutionOptions(crossover=0.5, crossover_kind="cells"))


@pytest.mark.parametrize("name", ["crossover", "layer_changes"])
def test_a_probability_above_1_is_refused(name: str) -> None:
    options: dict[str, Any] = {name: 1.5}
    with pytest.raises(ValueError, match=f"`{name}` must be from 0 to 1, got 1.5"):
        EvolutionOptions(**options)


def test_the_papers_toy() -> None:
    """Spec T4.3: of 1,000 strings of 100 bits the best has above 0.85, by chance below 0.72."""
    space = BitStrings()
    best = [
        ToySearch(Evolution(space, EvolutionOptions(population=100, tournament=10)), seed).run(1_000).best()
        for seed in range(2)
    ]
    by_chance = [ToySearch(RandomSearch(space), seed).run(1_000).best() for seed in range(2)]
    assert min(best) > 0.85
    assert max(by_chance) < 0.72


def test_without_selection_the_papers_toy_makes_no_progress() -> None:
    """Spec T4.4: with a tournament of one the population's mean stays where it was."""
    history = ToySearch(Evolution(BitStrings(), EvolutionOptions(population=100, tournament=1)), 0).run(600).history
    assert 0.45 < statistics.fmean(child.reward or 0 for child in history[-100:]) < 0.53
