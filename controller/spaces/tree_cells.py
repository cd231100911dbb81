"""Cells that are trees, in a small DenseNet (Cai et al. 2018, arXiv 1806.02639, sections 3 and 4; spec §9.2).

All cells of a network are one tree. It grows from a convolution by three kinds of actions: a node gets branches, a node
is inserted below an edge, and an operation comes in the place of an identity. An edge keeps its path through all of
them, and with it its nodes' names and weights.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from child_trainer.architectures.architecture import Architecture, Kind, node
from child_trainer.field_types import check_types
from child_trainer.inheritance.changes import Branch, Change, InsertIdentity
from controller.decisions import InvalidTokens, Tokens
from controller.limits import MAX_CELLS, check_number
from controller.spaces.cell_tree import (
    IDENTITY,
    MERGES,
    START,
    START_TREE,
    Edge,
    Growth,
    Merge,
    Path,
    TreeDecision,
    TreeNode,
    decisions_at,
    decisions_below,
    edge_at,
    edges_of,
    node_at,
    text_of,
    tree_of,
    undecided,
    with_edge,
    with_node,
)
from controller.spaces.free_form import FreeForm
from controller.spaces.tree_networks import (
    NOISE,
    OPERATIONS,
    CellBuilder,
    CellShape,
    edge_name,
    node_name,
    picture,
    replacement,
)

MAX_STAGES, MAX_DEPTH, MAX_FILTERS = 6, 5, 2**12
"""Upper bounds for `stages`, `max_depth` and numbers of filters; a tree of depth 5 has up to 243 leaves."""


@dataclass(frozen=True, kw_only=True)
class TreeCellSpace(FreeForm):
    """Trees in the place of the convolutions of a small DenseNet.

    A sample has no fixed sequence of decisions. Its tokens are, for each node, how it merges how many edges, and for
    each of these its operation (but of the root's, which is the convolution) and whether a node is below it; no tokens
    at all are the convolution alone.
    """

    sample_name = "a cell that is a tree"

    stages: int = 3
    """Stages of the network; between two of them the image is halved."""
    blocks_per_stage: int = 1
    """Blocks of a stage. Each has a cell, whose value is concatenated to what the block reads."""
    growth: int = 48
    """Filters of a cell; the first convolution of the network has twice as many."""
    bottleneck: int = 4
    """Filters of the 1x1 convolution that a cell reads, in multiples of `growth`."""
    groups: int = 2
    """Groups of the 3x3 convolution that a cell begins as. With 1, its branches that are concatenated all read the
    whole input."""
    max_depth: int = 3
    """Maximum number of edges one below another."""
    operations: tuple[str, ...] = tuple(OPERATIONS)
    """Operations of an edge that is not the root's."""

    def __post_init__(self) -> None:
        check_types(self)
        check_number(self, "stages", 1, MAX_STAGES)
        check_number(self, "blocks_per_stage", 1, MAX_CELLS)
        for name in ("growth", "bottleneck", "groups"):
            check_number(self, name, 1, MAX_FILTERS)
        if self.bottleneck * self.growth > MAX_FILTERS:
            raise ValueError(
                f"`bottleneck` times `growth` must be at most {MAX_FILTERS:,} filters, got {self.bottleneck:,} x"
                f" {self.growth:,}"
            )
        check_number(self, "max_depth", 2, MAX_DEPTH)
        if self.growth % self.groups:
            raise ValueError(f"`groups` must divide the {self.growth} filters of `growth`, got {self.groups}")
        known = set(self.operations) <= set(OPERATIONS)
        if not self.operations or not known or len(set(self.operations)) < len(self.operations):
            names = ", ".join(OPERATIONS)
            raise ValueError(f"`operations` must be one or more different ones of {names}, got {self.operations}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures."""
        return "feedforward"

    def first(self, completed: int, rng: random.Random) -> Tokens:
        """Return a tree that grows from the convolution by uniform decisions."""
        return self.encode(self._finished(self.growth_of(START_TREE), rng))

    def mutate(self, tokens: Sequence[int], rng: random.Random) -> Tokens:
        """Return the tree with one edge, or the whole, drawn anew: its operation and all that is below it."""
        tree, mutated = self.tree(tokens), tuple(tokens)
        while mutated == tuple(tokens):
            path = rng.choice([(), *(path for path, _ in edges_of(tree))])
            growth = self.growth_of(START_TREE)
            if path:
                operation = START if len(path) == 1 else None
                agenda = [TreeDecision("insert", path)] if len(path) < self.max_depth else []
                agenda += [TreeDecision("operation", path)] if operation is None else []
                growth = Growth(with_edge(tree, path, Edge(operation)), tuple(agenda))
            mutated = self.encode(self._finished(growth, rng))
        return mutated

    def growth_of(self, tree: TreeNode) -> Growth:
        """Return the growth of a tree at its beginning. Its identities may become operations."""
        open_tree = undecided(tree)
        return Growth(open_tree, tuple(reversed(decisions_at(open_tree, (), self.max_depth))))

    def options(self, growth: Growth) -> tuple[bool, ...]:
        """Return which options of the next decision of a growth are allowed.

        Channels that do not come in halves are not concatenated. The last edge of the root that could get a node gets
        one if no other has: a tree is more than convolutions side by side, as in the published code.
        """
        decision = growth.agenda[-1]
        match decision.kind:
            case "merge":
                return tuple(
                    merge != "concat" or self._shape.has_halves(growth.tree, decision.path) for merge, _ in MERGES
                )
            case "operation":
                return (True,) * len(self.operations)
            case "insert":
                bare = len(decision.path) == 1 and all(edge.below is None for edge in growth.tree.edges)
                later = any(other.kind == "insert" and len(other.path) == 1 for other in growth.agenda[:-1])
                return (not bare or later, True)

    def decided(
        self, growth: Growth, option: int, *, branch_noise: float = NOISE, operation_noise: float = NOISE
    ) -> tuple[Growth, tuple[Change, ...]]:
        """Return the growth after its next decision, and what that changes in the network.

        Args:
            growth: has decisions left.
            option: one that is allowed.
            branch_noise: as in `Branch`.
            operation_noise: as in `ReplaceIdentity`.
        """
        *agenda, decision = growth.agenda
        tree, path = growth.tree, decision.path
        changes: tuple[Change, ...] = ()
        if decision.kind == "merge":
            (edge,), (merge, count) = node_at(tree, path).edges, MERGES[option]
            tree = with_node(tree, path, TreeNode(merge, (edge,) * count))
            agenda += reversed(decisions_below(tree, path, self.max_depth))
            if merge != "none":
                changes = self._branches(path, option, branch_noise)
        elif decision.kind == "operation":
            operation = self.operations[option]
            tree = with_edge(tree, path, replace(edge_at(tree, path), operation=operation))
            if operation != IDENTITY:
                width = self._shape.width(tree, path)
                names = [edge_name(cell, path) for cell in self._cells]
                changes = tuple(replacement(name, operation, width, operation_noise) for name in names)
        elif option:
            tree = with_node(tree, path, TreeNode("none", (Edge(None),)))
            agenda += reversed(decisions_at(tree, path, self.max_depth))
            changes = tuple(
                InsertIdentity(after=edge_name(cell, path), name=edge_name(cell, (*path, 0))) for cell in self._cells
            )
        return Growth(tree, tuple(agenda)), changes

    def allocation(self, path: Path, merge: Merge) -> Literal["copy", "split"]:
        """Return whether a node gives its edges its whole input or a part of its channels each."""
        return self._shape.allocation(path, merge)

    def tree(self, tokens: Sequence[int]) -> TreeNode:
        """Return the tree that the tokens encode.

        Raises:
            InvalidTokens: they are not a sample of this space.
        """
        if not tokens:
            return START_TREE
        rest = list(reversed(tokens))
        tree = self._read(rest, ())
        if rest:
            raise InvalidTokens(f"a tree ends {len(rest)} tokens before the end of {list(tokens)[:12]}")
        for path in [(), *(path for path, edge in edges_of(tree) if edge.below is not None)]:
            if node_at(tree, path).merge == "concat" and not self._shape.has_halves(tree, path):
                raise InvalidTokens(f"{text_of(tree)!r} concatenates halves of channels, or groups, of an odd number")
        return tree

    def encode(self, tree: TreeNode) -> Tokens:
        """Return the tokens of a tree whose operations are all decided.

        Raises:
            InvalidTokens: the space has none of its operations, or no such depth.
        """
        return tuple(self._tokens(tree, 1))

    def tokens_of(self, genotype: str) -> Tokens:
        """Return the tokens of a tree as `genotypes` writes it.

        Raises:
            InvalidTokens: it is no tree of this space.
        """
        tokens = self.encode(tree_of(genotype))
        self.tree(tokens)
        return tokens

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network whose cells are this tree."""
        tree, growth = self.tree(tokens), self.growth
        nodes = [node("stem", "conv", "image", filters=2 * growth, height=3, width=3)]
        source, channels, cell = "stem", 2 * growth, 0
        for stage in range(1, self.stages + 1):
            for _ in range(self.blocks_per_stage):
                cell += 1
                bottleneck = node(
                    f"cell{cell}.bottleneck", "conv", source, filters=self.bottleneck * growth, height=1, width=1
                )
                builder = CellBuilder(f"cell{cell}", tree, self._shape, [bottleneck])
                joined = node(f"cell{cell}.joined", "concat", (source, builder.add_node((), bottleneck.name)))
                nodes += [*builder.nodes, joined]
                source, channels = joined.name, channels + growth
            if stage < self.stages:
                channels //= 2
                halved = node(f"transition{stage}.conv", "conv", source, filters=channels, height=1, width=1)
                size = dict.fromkeys(("height", "width", "stride_height", "stride_width"), 2)
                pool = node(f"transition{stage}.pool", "avg_pool", halved.name, **size)
                nodes += [halved, pool]
                source = pool.name
        return Architecture("feedforward", tuple(nodes), (source,))

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the tree as text that `tokens_of` reads."""
        return {"path-level EAS": text_of(self.tree(tokens))}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return the cell as a graph for people."""
        return {"cell": picture(self.tree(tokens), self._shape)}

    @property
    def _shape(self) -> CellShape:
        return CellShape(self.growth, self.groups)

    @property
    def _cells(self) -> tuple[str, ...]:
        """What the names of the nodes of each cell begin with."""
        return tuple(f"cell{number}" for number in range(1, self.stages * self.blocks_per_stage + 1))

    def _finished(self, growth: Growth, rng: random.Random) -> TreeNode:
        """Return the tree once all its decisions are made, each uniformly."""
        while growth.agenda:
            allowed = [option for option, is_allowed in enumerate(self.options(growth)) if is_allowed]
            growth, _ = self.decided(growth, rng.choice(allowed))
        return growth.tree

    def _branches(self, path: Path, option: int, noise: float) -> tuple[Change, ...]:
        """Return what makes branches of the only edge of a node, in each cell."""
        merge, count = MERGES[option]
        assert merge != "none"
        allocation, names = self.allocation(path, merge), [node_name(cell, path) for cell in self._cells]
        return tuple(
            Branch(node=f"{name}.1", name=name, allocation=allocation, merge=merge, count=count, noise=noise)
            for name in names
        )

    def _read(self, rest: list[int], path: Path) -> TreeNode:
        """Return the node at a path, whose tokens are the last ones, and take them away."""
        merge, count = MERGES[_take(rest, len(MERGES), "merge")]
        edges = list[Edge]()
        for place in range(count):
            operation = self.operations[_take(rest, len(self.operations), "operation")] if path else START
            below = (*path, place)
            has_node = len(below) < self.max_depth and _take(rest, 2, "node below an edge")
            edges.append(Edge(operation, self._read(rest, below) if has_node else None))
        return TreeNode(merge, tuple(edges))

    def _tokens(self, tree: TreeNode, depth: int) -> list[int]:
        tokens = [MERGES.index((tree.merge, len(tree.edges)))]
        options = self.operations if depth > 1 else (START,)
        for edge in tree.edges:
            if edge.operation not in options:
                where = "the root" if depth == 1 else "another node"
                raise InvalidTokens(f"an edge of {where} is one of {', '.join(options)}, got {edge.operation!r}")
            tokens += [options.index(edge.operation)] if depth > 1 else []
            if edge.below is not None and depth == self.max_depth:
                raise InvalidTokens(f"a tree has up to {self.max_depth} edges one below another: see `max_depth`")
            if depth < self.max_depth:
                tokens += [0] if edge.below is None else [1, *self._tokens(edge.below, depth + 1)]
        return tokens


def _take(rest: list[int], options: int, what: str) -> int:
    """Return the last token and take it away."""
    if not rest:
        raise InvalidTokens(f"the tokens end within a tree: a {what} is missing")
    token = rest.pop()
    if not 0 <= token < options:
        raise InvalidTokens(f"the {what} of a tree is a number from 0 to {options - 1}, got {token}")
    return token


DIGITS = TreeCellSpace(stages=2, growth=8, bottleneck=2)
"""A small space for images of 8 x 8 pixels."""
