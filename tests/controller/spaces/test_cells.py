"""The spaces of NASNet, AmoebaNet and PNAS (spec §3.1, §4.1, §5.1)."""

import itertools
import random

import pytest
import torch

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.cells.cell import Block, Cell, Genotype, InvalidCell
from child_trainer.architectures.folding import folded
from child_trainer.networks.build import build
from controller.decisions import InvalidTokens, mutate, num_samples, uniform
from controller.space import SearchSpace
from controller.spaces.cells import AmoebaNetSpace, CellSpace, NasNetSpace, PnasSpace
from controller.zoo.entry import Images
from tests.contracts.search_space import SearchSpaceContract

DIGITS = Images(input_shape=(1, 8, 8), num_classes=10)
SMALL = {"cells_per_stage": 1, "filters": 8}


class TestNasNet(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return NasNetSpace(cells_per_stage=1, filters=8)


class TestAmoebaNet(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return AmoebaNetSpace(cells_per_stage=1, filters=8, drop_path=True, auxiliary=True)


class TestPnas(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return PnasSpace(cells_per_stage=1, filters=8)


def test_the_sizes_of_the_spaces() -> None:
    """Spec §3.1: 50 tokens; §4.1: (8^2)^5 times the product of (2 + b)^2, per cell."""
    inputs = (2 * 3 * 4 * 5 * 6) ** 2
    assert len(NasNetSpace().decisions(0)) == 50
    assert num_samples(NasNetSpace().decisions(0)) == (13**10 * 2**5 * inputs) ** 2
    assert len(AmoebaNetSpace().decisions(0)) == 40
    assert num_samples(AmoebaNetSpace().decisions(0)) == (64**5 * inputs) ** 2
    assert len(PnasSpace().decisions(0)) == 20
    assert num_samples(PnasSpace().decisions(0)) == 64**5 * inputs


@pytest.mark.parametrize("space", [NasNetSpace(), AmoebaNetSpace(), PnasSpace()])
def test_tokens_become_cells_and_cells_tokens(space: CellSpace) -> None:
    """Spec T3.2."""
    rng = random.Random(0)
    for _ in range(200):
        tokens = uniform(space.decisions(0), rng)
        assert space.tokens_of(space.genotype_of(tokens)) == tokens


def test_states_that_no_block_reads_are_the_output() -> None:
    """Spec T3.3."""
    sep = ("sep_3x3", "sep_3x3")
    chain = Cell.of([Block((0, 0), sep), Block((2, 2), sep), Block((3, 3), sep)])
    assert chain.concat == (1, 4)
    apart = Cell.of([Block((0, 1), sep), Block((0, 1), sep)])
    assert apart.concat == (2, 3)


def test_the_first_blocks_of_pnas_are_136_cells() -> None:
    """Spec T5.1: 256 pairs of sides, 136 if their order does not matter."""
    space = PnasSpace(**SMALL)
    samples = list(itertools.product(range(2), range(2), range(8), range(8)))
    assert len({space.canonical(tokens) for tokens in samples}) == 136
    assert len(samples) == 256


def test_the_order_of_a_blocks_sides_does_not_matter() -> None:
    """Spec T5.3."""
    space, rng = PnasSpace(**SMALL), random.Random(1)
    for _ in range(20):
        tokens = uniform(space.decisions_of(12), rng)
        swapped = [t for i in range(0, 12, 4) for a, b, o, p in [tokens[i : i + 4]] for t in (b, a, p, o)]
        assert space.canonical(swapped) == space.canonical(tokens)
        assert space.decode(swapped).id == space.decode(tokens).id
        assert space.canonical(space.canonical(tokens)) == space.canonical(tokens)


def test_a_single_cell_may_have_fewer_blocks() -> None:
    space = PnasSpace(**SMALL)
    rng = random.Random(0)
    for blocks in range(1, 6):
        tokens = uniform(space.decisions_of(4 * blocks), rng)
        assert len(space.genotype_of(tokens).normal.blocks) == blocks
    for wrong in (0, 3, 24):
        with pytest.raises(InvalidTokens, match=f"4 tokens for each of its 1 to 5 blocks, got {wrong} tokens"):
            space.decisions_of(wrong)


def test_two_cells_have_all_their_blocks() -> None:
    with pytest.raises(InvalidTokens, match="two cells of 5 blocks take 40 tokens, got 20"):
        AmoebaNetSpace().decisions_of(20)


@pytest.mark.parametrize("kind", [NasNetSpace, AmoebaNetSpace, PnasSpace])
def test_small_networks_learn_from_small_images(kind: type[CellSpace]) -> None:
    """Every operation and combination trains on 8x8 images, to the first weight."""
    space, rng = kind(**SMALL), random.Random(3)
    for _ in range(4):
        network = build(space.decode(uniform(space.decisions(0), rng)), DIGITS)
        network(torch.randn(2, 1, 8, 8)).square().sum().backward()
        stem = next(network.parameters())
        assert stem.grad is not None and stem.grad.abs().sum() > 0


def test_a_factorised_reduction_halves_odd_sizes_upwards() -> None:
    """Spec T3.6."""
    space = NasNetSpace(**SMALL)
    tokens = uniform(space.decisions(0), random.Random(0))
    network = build(space.decode(tokens), Images(input_shape=(3, 7, 5), num_classes=4))
    assert network(torch.randn(2, 3, 7, 5)).shape == (2, 4)
    sizes = {row.size for row in folded(space.decode(tokens), (7, 5))}
    assert sizes == {(7, 5), (4, 3), (2, 2)}


@pytest.mark.parametrize("macro", ["imagenet-mobile", "imagenet-large"])
@pytest.mark.parametrize("kind", [NasNetSpace, PnasSpace])
def test_the_networks_for_imagenet_begin_with_reductions(kind: type[CellSpace], macro: str) -> None:
    space = kind(cells_per_stage=2, filters=8, macro=macro)  # pyright: ignore[reportArgumentType]
    network = build(
        space.decode(uniform(space.decisions(0), random.Random(0))), Images(input_shape=(3, 64, 64), num_classes=5)
    )
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_drop_path_marks_what_is_no_identity() -> None:
    """Spec §3.3: a path's depth is its cell's share of the network, and identities are never dropped."""
    plain, dropping = AmoebaNetSpace(**SMALL), AmoebaNetSpace(**SMALL, drop_path=True)
    tokens = (0,) * 4 + uniform(plain.decisions(0), random.Random(0))[4:]  # the first block has two identities
    paths = [n for n in dropping.decode(tokens).nodes if n.op == "drop_path"]
    assert not any(n.op == "drop_path" for n in plain.decode(tokens).nodes)
    assert sorted({n.attribute("depth") for n in paths}) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert not any(n.name.startswith("normal1.1") for n in paths)
    assert plain.decode(tokens).outputs == ("features",)


def test_an_auxiliary_head_comes_before_the_last_reduction() -> None:
    space = NasNetSpace(**SMALL, auxiliary=True)
    tokens = uniform(space.decisions(0), random.Random(0))
    architecture = space.decode(tokens)
    assert architecture.outputs == ("features", "auxiliary.features")
    relu = next(n for n in architecture.nodes if n.name == "auxiliary.relu")
    assert relu.inputs == ("normal3.output",)
    assert architecture.without_auxiliary().id == NasNetSpace(**SMALL).decode(tokens).id
    logits, auxiliary = build(architecture, DIGITS).with_auxiliary(torch.randn(2, 1, 8, 8))
    assert logits.shape == auxiliary.shape == (2, 10)


def test_mutations_change_one_slot() -> None:
    """Spec T4.2, of this space: the population's mutation is `decisions.mutate`."""
    space, rng = AmoebaNetSpace(), random.Random(0)
    decisions = space.decisions(0)
    tokens = uniform(decisions, rng)
    for _ in range(500):
        changed = mutate(decisions, tokens, rng)
        assert sum(a != b for a, b in zip(tokens, changed, strict=True)) == 1
        space.genotype_of(changed)
        tokens = changed


def test_motifs_are_the_cells() -> None:
    tokens = uniform(NasNetSpace().decisions(0), random.Random(0))
    motifs = NasNetSpace().motifs(tokens)
    assert list(motifs) == ["normal cell", "reduction cell"]
    assert all(isinstance(cell, Architecture) and cell.kind == "cell" for cell in motifs.values())
    assert list(PnasSpace().motifs(tokens[:4])) == ["cell"]


def test_cells_that_a_space_does_not_have_are_refused() -> None:
    sep = ("sep_3x3", "sep_3x3")
    small = Cell.of([Block((0, 1), sep)])
    other = Cell.of([Block((0, 0), sep)])
    with pytest.raises(InvalidTokens, match="the normal cell must have 5 blocks, got 1"):
        NasNetSpace().tokens_of(Genotype(small, small))
    with pytest.raises(InvalidTokens, match="one cell, but the normal and the reduction cell differ"):
        PnasSpace().tokens_of(Genotype(small, other))
    with pytest.raises(InvalidTokens, match="concatenates the states that no block reads, 2, got 1, 2"):
        quirky = Cell(small.blocks, (1, 2))
        PnasSpace().tokens_of(Genotype(quirky, quirky))
    with pytest.raises(InvalidTokens, match=r"the cell uses some of identity, sep_3x3, .*, got conv_1x1"):
        foreign = Cell.of([Block((0, 1), ("conv_1x1", "sep_3x3"))])
        PnasSpace().tokens_of(Genotype(foreign, foreign))
    with pytest.raises(InvalidTokens, match="the cell combines by add, got concat"):
        joined = Cell.of([Block((0, 1), sep, "concat")])
        PnasSpace().tokens_of(Genotype(joined, joined))


@pytest.mark.parametrize(
    ("blocks", "concat", "reason"),
    [
        ((), (0,), "at least one block"),
        ((Block((0, 2), ("identity", "identity")),), (2,), "block 1 may read the states 0 to 1, got 2"),
        ((Block((0, 1), ("identity", "sep_9x9")),), (2,), "block 1 has the unknown operation 'sep_9x9'"),
        ((Block((0, 1), ("identity", "identity"), "subtract"),), (2,), "combines by add or concat, got 'subtract'"),
        ((Block((0, 1), ("identity", "identity")),), (3,), "some of the states 0 to 2, got"),
        ((Block((0, 1), ("identity", "identity")),), (2, 2), "concatenates different states"),
    ],
)
def test_impossible_cells_are_refused(blocks: tuple[Block, ...], concat: tuple[int, ...], reason: str) -> None:
    with pytest.raises(InvalidCell, match=reason):
        Cell(blocks, concat)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"operations": ()}, "`operations` must be one or more different ones of identity"),
        ({"operations": ("sep_9x9",)}, "`operations` must be"),
        ({"combinations": ("add", "add")}, "`combinations` must be one or more different ones of add, concat"),
        ({"blocks": 0}, "`blocks` must be at least 1, got 0"),
        ({"cells_per_stage": 0}, "`cells_per_stage` must be at least 1, got 0"),
        ({"filters": 1}, "`filters` must be at least 2, got 1"),
        ({"filters": 4, "macro": "imagenet-mobile"}, "`filters` must be at least 8, got 4"),
    ],
)
def test_impossible_settings_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CellSpace(**options)
