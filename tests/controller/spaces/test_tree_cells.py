"""The space of path-level EAS (Cai et al. 2018, arXiv 1806.02639; spec §9.2)."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from child_trainer.architectures.drawing import draw
from child_trainer.inheritance.changed_architectures import changed
from child_trainer.inheritance.changes import Change, InsertIdentity, ReplaceIdentity
from child_trainer.networks.build import build
from child_trainer.networks.cost import parameters
from child_trainer.tasks.catalogue import TASKS
from controller.decisions import InvalidTokens
from controller.spaces.cell_tree import MERGES, START_TREE, Growth, TreeDecision, edges_of, text_of, tree_of
from controller.spaces.tree_cells import DIGITS, TreeCellSpace
from controller.spaces.tree_networks import OPERATIONS
from tests.child_trainer.inheritance.networks import child_of, outputs, trained
from tests.contracts.search_space import SearchSpaceContract

SPACE = TreeCellSpace()
SMALL = TreeCellSpace(stages=2, growth=4, bottleneck=1, groups=2)
COPIES = TreeCellSpace(stages=1, blocks_per_stage=2, growth=4, bottleneck=1, groups=1)

TREE_CELL_A = (
    "add(conv_3x3 > add(conv_1x1 > concat(avg_3x3, sep_7x7), max_3x3 > add(sep_3x3, sep_5x5)),"
    " conv_3x3 > add(sep_5x5 > add(sep_5x5, avg_3x3, avg_3x3), sep_3x3 > add(avg_3x3, sep_3x3)))"
)
"""The published cell."""


class TestContract(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> TreeCellSpace:
        return DIGITS


class TestCopies(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> TreeCellSpace:
        return COPIES


def grown(space: TreeCellSpace, options: Sequence[int]) -> tuple[Growth, list[Change]]:
    """Return the growth after these decisions, and all changes."""
    growth, changes = space.growth_of(START_TREE), list[Change]()
    for option in options:
        assert space.options(growth)[option], growth.agenda[-1]
        growth, made = space.decided(growth, option, branch_noise=0, operation_noise=0)
        changes += made
    return growth, changes


def random_growth(
    space: TreeCellSpace, rng: random.Random, growth: Growth, without: Sequence[str] = ()
) -> tuple[Growth, list[Change]]:
    changes = list[Change]()
    while growth.agenda:
        options = [option for option, allowed in enumerate(space.options(growth)) if allowed]
        if growth.agenda[-1].kind == "operation":
            options = [option for option in options if space.operations[option] not in without]
        growth, made = space.decided(growth, rng.choice(options), branch_noise=0, operation_noise=0)
        changes += made
    return growth, changes


def test_the_start_is_a_small_densenet() -> None:
    network = build(SPACE.decode(()), TASKS["cifar10"].problem)  # pyright: ignore[reportArgumentType]
    cell = 192 * 48 * 9 // 2 + 2 * 48  # two groups
    stem = 27 * 96 + 2 * 96
    bottlenecks = sum(192 * width + 2 * 192 for width in (96, 72, 60))
    transitions = (144 * 72 + 2 * 72) + (120 * 60 + 2 * 60)
    assert parameters(network) == stem + bottlenecks + 3 * cell + transitions + (108 * 10 + 10)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert SPACE.genotypes(()) == {"path-level EAS": "conv_3x3"}


@pytest.mark.parametrize("space", [SMALL, COPIES])
def test_changes_and_tokens_agree_on_the_network_and_its_names(space: TreeCellSpace) -> None:
    """The network of a grown tree is that of the start after the changes, node for node, and so in a second growth."""
    rng = random.Random(0)
    for _ in range(15):
        growth, changes = random_growth(space, rng, space.growth_of(START_TREE))
        first = space.decode(space.encode(growth.tree))
        assert changed(space.decode(()), changes) == first
        assert space.tree(space.encode(growth.tree)) == growth.tree
        again, more = random_growth(space, rng, space.growth_of(growth.tree))
        second = space.decode(space.encode(again.tree))
        assert changed(first, more) == second
        assert {n.name for n in first.nodes} <= {n.name for n in second.nodes}


@pytest.mark.parametrize("space", [SMALL, COPIES])
def test_grown_cells_compute_what_the_start_does_unless_they_have_a_pool(space: TreeCellSpace) -> None:
    """T9.1, T9.4: whatever the tree, with convolutions, copies, halves and means."""
    rng = random.Random(2)
    start = space.decode(())
    network = trained(start)
    expected = outputs(network)
    seen = Counter[str]()
    for _ in range(6):
        growth, changes = random_growth(space, rng, space.growth_of(START_TREE), without=("max_3x3", "avg_3x3"))
        _, child = child_of(start, network, *changes)
        assert (outputs(child) - expected).abs().max() < 1e-5, text_of(growth.tree)
        seen.update(type(change).__name__ for change in changes)
    assert set(seen) == {"Branch", "InsertIdentity", "ReplaceIdentity"}
    pooled = grown(space, [0, 1, 0, 5, 0])[1]
    assert isinstance(pooled[-1], ReplaceIdentity)
    _, child = child_of(start, network, *pooled)
    assert (outputs(child) - expected).abs().max() > 1e-3


def test_decisions_come_depth_first_operations_before_what_is_below() -> None:
    """As in the published code: after a merge the edges' operations, then whether a node comes below each."""
    growth = SPACE.growth_of(START_TREE)
    assert growth.agenda == (TreeDecision("merge", ()),)
    growth, _ = grown(SPACE, [1])  # the sum of two convolutions, which stay
    assert [(d.kind, d.path) for d in reversed(growth.agenda)] == [("insert", (0,)), ("insert", (1,))]
    growth, changes = grown(SPACE, [1, 1])
    assert [(d.kind, d.path) for d in reversed(growth.agenda)] == [("merge", (0,)), ("insert", (1,))]
    assert changes[-3:] == [InsertIdentity(after=f"cell{n}.node.1", name=f"cell{n}.node1.1") for n in (1, 2, 3)]
    growth, _ = grown(SPACE, [1, 1, 3])  # halves
    assert [(d.kind, d.path) for d in reversed(growth.agenda)] == [
        *(("operation", (0, 0)), ("operation", (0, 1))),
        *(("insert", (0, 0)), ("insert", (0, 1)), ("insert", (1,))),
    ]
    growth, changes = grown(SPACE, [1, 1, 3, 2, 4, 1, 0, 6, 0, 0])
    assert growth.agenda == ()  # the third edge has nothing below it
    assert text_of(growth.tree) == "add(conv_3x3 > concat(sep_7x7 > avg_3x3, identity), conv_3x3)"
    assert changes[-1] == ReplaceIdentity(node="cell3.node11.1", op="avg_pool", size=3, noise=0)


def test_a_tree_has_a_node_below_its_root() -> None:
    growth, _ = grown(SPACE, [2])
    assert SPACE.options(growth) == (True, True)
    growth, _ = grown(SPACE, [2, 0, 0])
    assert SPACE.options(growth) == (False, True)
    growth, _ = grown(SPACE, [2, 0, 1, 0, 4, 0])
    assert (growth.agenda, SPACE.options(growth)) == ((TreeDecision("insert", (2,)),), (True, True))


def test_odd_channels_are_not_concatenated() -> None:
    space = TreeCellSpace(growth=6, groups=2)
    growth, _ = grown(space, [3])  # halves of 3
    assert space.options(growth) == (True, True)
    growth, _ = grown(space, [3, 1])
    assert space.options(growth) == tuple(merge != "concat" for merge, _ in MERGES)
    with pytest.raises(InvalidTokens, match="concatenates halves of channels, or groups, of an odd number"):
        space.tokens_of("concat(conv_3x3 > concat(sep_3x3, identity), conv_3x3)")
    growth = TreeCellSpace(growth=6, groups=3).growth_of(START_TREE)
    assert TreeCellSpace(growth=6, groups=3).options(growth)[-1] is False


def test_the_published_cell_is_read_written_and_drawn() -> None:
    tokens = SPACE.tokens_of(TREE_CELL_A)
    assert SPACE.genotypes(tokens) == {"path-level EAS": TREE_CELL_A}
    assert draw(SPACE.motifs(tokens)["cell"]).splitlines() == [
        "node 1 = concat (avg 3x3 (part 1 of 2 (conv 1x1 (conv 3x3 (input)))),"
        " sep 7x7 (part 2 of 2 (conv 1x1 (conv 3x3 (input)))))",
        "node 2 = sep 3x3 (max 3x3 (conv 3x3 (input))) + sep 5x5 (max 3x3 (conv 3x3 (input)))",
        "node 3 = node 1 + node 2",
        "node 4 = sep 5x5 (sep 5x5 (conv 3x3 (input))) + avg 3x3 (sep 5x5 (conv 3x3 (input)))"
        " + avg 3x3 (sep 5x5 (conv 3x3 (input)))",
        "node 5 = avg 3x3 (sep 3x3 (conv 3x3 (input))) + sep 3x3 (sep 3x3 (conv 3x3 (input)))",
        "node 6 = node 4 + node 5",
        "output = node 3 + node 6",
    ]
    chain = SPACE.motifs(SPACE.tokens_of("conv_3x3 > sep_3x3"))["cell"]
    assert draw(chain) == "output = sep 3x3 (conv 3x3 (input))"


def test_the_published_network_has_its_parameters() -> None:
    """13.1 M in the published table, where normalisation comes before each convolution and so has other widths."""
    space = TreeCellSpace(blocks_per_stage=16)
    with torch.device("meta"):
        network = build(space.decode(space.tokens_of(TREE_CELL_A)), TASKS["cifar10"].problem)  # pyright: ignore[reportArgumentType]
    ours = parameters(network)
    assert ours == 13_031_530
    widths = [first + 48 * block for first in (96, 432, 600) for block in range(16)]
    bottlenecks = sum(width - 192 for width in widths)
    cells, transitions, last, stem = 48 * 2 * (192 - 48), 432 + 600, 1368, -96
    assert ours + 2 * (bottlenecks + cells + transitions + last + stem) == 13_116_010


def test_random_trees_have_every_part_and_mutations_change_one() -> None:
    rng = random.Random(0)
    trees = [DIGITS.tree(DIGITS.first(0, rng)) for _ in range(200)]
    edges = [edge for tree in trees for _, edge in edges_of(tree)]
    assert {edge.operation for edge in edges} == {"conv_3x3", *OPERATIONS}
    assert {(tree.merge, len(tree.edges)) for tree in trees} == {*MERGES}
    assert max(len(path) for tree in trees for path, _ in edges_of(tree)) == 3
    assert all(any(edge.below for edge in tree.edges) for tree in trees)
    tokens = DIGITS.tokens_of("add(conv_3x3 > concat(max_3x3, sep_3x3), conv_3x3)")
    mutations = Counter(text_of(DIGITS.tree(DIGITS.mutate(tokens, rng))) for _ in range(300))
    assert mutations["add(conv_3x3 > concat(avg_3x3, sep_3x3), conv_3x3)"]
    assert any(text.startswith("concat(conv") for text in mutations)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("add(conv_3x3, conv_3x3", "a tree needs ')', got its end"),
        ("conv_3x3 > ", "a tree needs an operation, got its end"),
        ("conv_3x3 > (sep_3x3)", "a tree needs an operation, got '('"),
        ("conv_3x3 sep_3x3", "a tree must end after 'conv_3x3', got 'sep_3x3' behind it"),
        ("concat(conv_3x3, conv_3x3, conv_3x3)", "or a concat of 2, got a concat of 3"),
        ("conv_3x3 + sep_3x3", "made of names, parentheses, commas and >, got '+ sep_3x3'"),
        ("sep_3x3", "an edge of the root is one of conv_3x3, got 'sep_3x3'"),
        ("conv_3x3 > conv_5x5", "an edge of another node is one of sep_3x3, .*, got 'conv_5x5'"),
        ("conv_3x3 > max_3x3 > max_3x3 > max_3x3", "up to 3 edges one below another: see `max_depth`"),
    ],
)
def test_a_text_that_is_no_tree_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidTokens, match=message.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+")):
        SPACE.tokens_of(text)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0], "a node below an edge is missing"),
        ([4], "the merge of a tree is a number from 0 to 3, got 4"),
        ([0, 1, 0, 7], "the operation of a tree is a number from 0 to 6, got 7"),
        ([0, 0, 0], "a tree ends 1 tokens before the end"),
    ],
)
def test_tokens_of_no_tree_are_refused(tokens: list[int], message: str) -> None:
    with pytest.raises(InvalidTokens, match=message):
        SPACE.decode(tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 5}, "`groups` must divide the 48 filters of `growth`, got 5"),
        ({"growth": 2048}, "`bottleneck` times `growth` must be at most 4,096 filters, got 4 x 2,048"),
        ({"operations": ("conv_3x3",)}, "`operations` must be one or more different ones of sep_3x3"),
        ({"operations": ("identity", "identity")}, "`operations` must be one or more different ones"),
        ({"max_depth": 1}, "`max_depth` must be at least 2, got 1"),
        ({"stages": 7}, "`stages` must be at most 6, got 7"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TreeCellSpace(**options)  # pyright: ignore[reportArgumentType]


def test_a_text_and_its_tree_are_one() -> None:
    rng = random.Random(4)
    for _ in range(50):
        tree = SPACE.tree(SPACE.first(0, rng))
        assert tree_of(text_of(tree)) == tree
