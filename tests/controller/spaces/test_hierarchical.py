"""The hierarchical space (Liu et al. 2018, arXiv 1711.00436; spec §8)."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.networks.build import ImageProblem, build
from controller.decisions import Choice, InvalidTokens, Tokens, num_samples
from controller.space import SearchSpace
from controller.spaces.hierarchical import PUBLISHED, HierarchicalSpace
from tests.contracts.search_space import SearchSpaceContract

SPACE = HierarchicalSpace()
SMALL = HierarchicalSpace(channels=4, initial_mutations=50)


class Digits:
    input_shape = (1, 8, 8)
    num_classes = 10


class Cifar:
    input_shape = (3, 32, 32)
    num_classes = 10


class TestSmallSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SMALL


class TestFlatSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return HierarchicalSpace(motifs_per_level=(1,), nodes_per_level=(5,), channels=2)


class TestFourLevels(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return HierarchicalSpace(
            motifs_per_level=(2, 2, 1), nodes_per_level=(3, 3, 3), channels=2, initial_mutations=20
        )


def parameters(architecture: Architecture, task: ImageProblem) -> int:
    return sum(p.numel() for p in build(architecture, task).parameters())


def test_a_sample_is_46_edges_of_which_the_chains_cannot_be_none() -> None:
    choices = [d for d in SPACE.decisions(0) if isinstance(d, Choice)]
    assert len(choices) == 6 * 6 + 10
    assert [len(c.options) for c in choices] == [6, 7, 7, 6, 7, 6] * 6 + [6, 7, 7, 7, 6, 7, 7, 6, 7, 6]
    assert num_samples(SPACE.decisions(0)) == 6**22 * 7**24


def test_the_published_network_has_its_published_size() -> None:
    """Spec T8.1, golden value G9."""
    space = HierarchicalSpace(channels=64, cells_per_stage=2)
    assert parameters(space.decode(space.tokens_of(PUBLISHED)), Cifar()) == 15_727_306


def test_a_diamond_of_diamonds_is_what_its_parts_compute() -> None:
    """Spec T8.2: a cell of three nodes whose edges are motifs of three nodes, against the same by recursion."""
    space = HierarchicalSpace(motifs_per_level=(2, 1), nodes_per_level=(3, 3), channels=3)
    graph = build(space.motif_networks(space.tokens_of("M 0 A\nI M A\n2 1 2"))["cell"], Cifar()).graph.eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    convolutions = dict(zip([n.name for n in graph.nodes], graph.operations, strict=True))

    def pool(kind: str, x: torch.Tensor) -> torch.Tensor:
        if kind == "M":
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def first(x: torch.Tensor, name: str) -> torch.Tensor:
        return convolutions[name](pool("A", pool("M", x)))

    def second(x: torch.Tensor, name: str) -> torch.Tensor:
        return convolutions[name](torch.cat([pool("M", x), pool("A", x)], 1))

    middle = second(images, "motif.1-2.motif2.out")
    expected = torch.cat([first(images, "motif.1-3.motif1.out"), second(middle, "motif.2-3.motif2.out")], 1)
    assert torch.equal(graph(images)[0], expected)


def test_mutations_reach_every_option_of_every_edge_and_keep_the_chains() -> None:
    """Spec T8.3."""
    rng, seen = random.Random(0), [set[int]() for _ in SPACE.decisions(0)]
    tokens = SPACE.identity_chains()
    for _ in range(10_000):
        mutated = SPACE.mutate(tokens, rng)
        assert sum(a != b for a, b in zip(tokens, mutated, strict=True)) <= 1
        tokens = mutated
        for token, values in zip(tokens, seen, strict=True):
            values.add(token)
    for choice, values in zip(SPACE.decisions(0), seen, strict=True):
        assert isinstance(choice, Choice)
        assert values == set(range(len(choice.options)))
    SPACE.decode(tokens)


def test_mutations_choose_the_level_first() -> None:
    """Half of the mutations change the cell's ten edges, and half the 36 of the motifs."""
    rng, start = random.Random(0), SPACE.identity_chains()
    changed = [[a != b for a, b in zip(start, SPACE.mutate(start, rng), strict=True)] for _ in range(4_000)]
    in_cell = sum(any(each[36:]) for each in changed)
    in_motifs = sum(any(each[:36]) for each in changed)
    assert 0.8 < in_cell / in_motifs < 1.25


def test_identity_chains_only_convolve_by_one_pixel() -> None:
    """Spec T8.4: a motif of identities is nothing but its 1x1 convolution, four of which are the cell's path."""
    motifs = SMALL.motif_networks(SMALL.identity_chains())
    convolution = node("c", "conv", "image", height=1, width=1, filters=4)
    assert motifs["motif 1"].id == Architecture("feedforward", (convolution,), ("c",)).id
    assert [n.op for n in motifs["cell"].ordered] == ["conv"] * 4
    assert SMALL.first(0, random.Random(0)) != SMALL.identity_chains()


def test_genotypes_can_be_read_again() -> None:
    for seed in range(20):
        tokens = SPACE.first(0, random.Random(seed))
        assert SPACE.tokens_of(SPACE.genotypes(tokens)["HNAS"]) == tokens
    assert SPACE.genotypes(SPACE.tokens_of(PUBLISHED))["HNAS"] == PUBLISHED.strip()


def test_each_motif_can_be_drawn_by_name() -> None:
    assert [*SPACE.motifs(SPACE.tokens_of(PUBLISHED))] == [*(f"motif {k}" for k in range(1, 7)), "cell"]
    deep = HierarchicalSpace(motifs_per_level=(1, 1, 1), nodes_per_level=(2, 2, 2))
    assert [*deep.motifs((0, 0, 0))] == ["level 2, motif 1", "level 3, motif 1", "cell"]


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ("M", "a genotype of this space has 7 lines, got 1"),
        (PUBLISHED.replace("M X S D X M", "M X"), "motif 1 of level 2 has 6 edges, got 2: M X"),
        (PUBLISHED.replace("M X S D X M", "0 X S D X M"), r"edge \(1, 2\) of motif 1 of level 2 must be .*, got '0'"),
        (PUBLISHED.replace("5 3 3", "5 3 7"), r"edge \(1, 4\) of motif 1 of level 3 must be one of 0 1 2 .*, got '7'"),
    ],
)
def test_a_wrong_genotype_is_refused(genotype: str, message: str) -> None:
    with pytest.raises(InvalidTokens, match=message):
        SPACE.tokens_of(genotype)


@pytest.mark.parametrize("seed", range(3))
def test_random_networks_learn_digits(seed: int) -> None:
    tokens: Tokens = SMALL.first(0, random.Random(seed))
    network = build(SMALL.decode(tokens), Digits(), generator=torch.Generator().manual_seed(seed))
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    loss = nn.functional.cross_entropy(network(images), torch.arange(6))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"motifs_per_level": ()}, "`motifs_per_level` must be one or more numbers, each at least 1, got"),
        ({"motifs_per_level": (6, 2)}, r"`motifs_per_level` must end in 1, the cell, got \(6, 2\)"),
        (
            {"nodes_per_level": (4,)},
            r"`nodes_per_level` must have as many numbers as `motifs_per_level`, 2, got \(4,\)",
        ),
        ({"nodes_per_level": (4, 1)}, "`nodes_per_level` must each be at least 2, an input and an output, got"),
        ({"channels": 0}, "`channels` must be at least 1, got 0"),
        ({"initial_mutations": -1}, "`initial_mutations` must be at least 0, got -1"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HierarchicalSpace(**options)  # type: ignore[arg-type]
