"""What a cell that is a tree computes, and what its growth changes (Cai et al. 2018, arXiv 1806.02639; spec §9.2).

Standard library only. An edge at a path is a node of the network whose name follows from the path, so that it keeps its
name, and its weights, while the tree grows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.inheritance.changed_architectures import replacement_nodes, split_nodes
from child_trainer.inheritance.changes import ReplaceIdentity, Replacement
from controller.spaces.cell_tree import IDENTITY, START, Merge, Path, TreeNode, edge_at, node_at

OPERATIONS: Mapping[str, tuple[Replacement, int] | None] = {
    "sep_3x3": ("separable_conv", 3),
    "sep_5x5": ("separable_conv", 5),
    "sep_7x7": ("separable_conv", 7),
    "conv_1x1": ("conv", 1),
    IDENTITY: None,
    "max_3x3": ("max_pool", 3),
    "avg_3x3": ("avg_pool", 3),
}
"""What may come in the place of an identity, with the size of its window."""

NOISE = 6e-3
"""The noise of copies and of new convolutions in the published code."""


@dataclass(frozen=True, slots=True)
class CellShape:
    """The channels of a cell.

    Attributes:
        filters: of the convolution that the cell grows from, and so channels of the cell's value.
        groups: of that convolution.
    """

    filters: int
    groups: int

    def width(self, tree: TreeNode, path: Path) -> int:
        """Return the channels of the value of the edge at a path."""
        return self.filters >> sum(node_at(tree, path[:depth]).merge == "concat" for depth in range(len(path)))

    def allocation(self, path: Path, merge: Merge) -> Literal["copy", "split"]:
        """Return whether a node gives its edges its whole input or a part of its channels each."""
        return "split" if merge == "concat" and (path or self.groups > 1) else "copy"

    def has_halves(self, tree: TreeNode, path: Path) -> bool:
        """Return whether a node's input, or the groups of the root's convolution, can be cut into two."""
        return self.width(tree, path) % 2 == 0 and (bool(path) or self.groups == 1 or self.groups % 2 == 0)


@dataclass(frozen=True)
class CellBuilder:
    """Adds the nodes of one cell, in the order in which changes of the start network would leave them.

    Attributes:
        cell: what the names of its nodes begin with.
        tree: the cell.
        shape: its channels.
        nodes: those so far.
    """

    cell: str
    tree: TreeNode
    shape: CellShape
    nodes: list[Node] = field(default_factory=list)

    def add_node(self, path: Path, source: str) -> str:
        """Add the tree's node at a path, with all below it; return the name of its value."""
        tree_node, name = node_at(self.tree, path), node_name(self.cell, path)
        sources = [source] * len(tree_node.edges)
        if self.shape.allocation(path, tree_node.merge) == "split":
            parts = split_nodes(name, source, len(sources))
            self.nodes.extend(parts)
            sources = [part.name for part in parts]
        values = [self._add_edge((*path, place), one) for place, one in enumerate(sources)]
        if tree_node.merge == "none":
            return values[0]
        self.nodes.append(node(name, "concat" if tree_node.merge == "concat" else "mean", values))
        return name

    def _add_edge(self, path: Path, source: str) -> str:
        edge, name, width = edge_at(self.tree, path), edge_name(self.cell, path), self.shape.width(self.tree, path)
        if edge.operation == START:
            cut = self.shape.allocation((), self.tree.merge) == "split"
            groups = self.shape.groups // (len(self.tree.edges) if cut else 1)
            self.nodes.append(node(name, "conv", source, filters=width, height=3, width=3, groups=groups))
        elif edge.operation in (None, IDENTITY):
            self.nodes.append(node(name, "identity", source))
        else:
            self.nodes.extend(replacement_nodes(replacement(name, edge.operation, width), source))
        return name if edge.below is None else self.add_node(path, name)


def node_name(cell: str, path: Path) -> str:
    """Return the name of what merges the edges of a tree's node, such as `cell1.node21`."""
    return f"{cell}.node{''.join(str(place + 1) for place in path)}"


def edge_name(cell: str, path: Path) -> str:
    """Return the name of what an edge computes, such as `cell1.node21.3`."""
    return f"{node_name(cell, path[:-1])}.{path[-1] + 1}"


def replacement(name: str, operation: str, width: int, noise: float = NOISE) -> ReplaceIdentity:
    """Return the change that puts an operation other than the identity in an identity's place.

    Args:
        name: of the identity.
        operation: one of `OPERATIONS`.
        width: its channels.
        noise: as in `ReplaceIdentity`, for a convolution.
    """
    known = OPERATIONS[operation]
    assert known is not None, "an identity needs no change"
    op, size = known
    if op in ("max_pool", "avg_pool"):
        return ReplaceIdentity(node=name, op=op, size=size, noise=0)
    return ReplaceIdentity(node=name, op=op, size=size, width=width, noise=noise)


def picture(tree: TreeNode, shape: CellShape) -> Architecture:
    """Return the cell as a graph of kind `cell` for people, whose only input is `newer`."""
    nodes = list[Node]()
    value = _draw(nodes, tree, (), "newer", shape)
    if value != "output":
        nodes.append(node("output", "identity", value))
    return Architecture("cell", tuple(nodes), ("output",))


def _draw(nodes: list[Node], tree: TreeNode, path: Path, source: str, shape: CellShape) -> str:
    """Add what a tree's node does; return the name of its value."""

    def box(name: str, label: str, reads: str) -> str:
        nodes.append(node(name, "part", reads, label=label))
        return name

    values = list[str]()
    for place, edge in enumerate(tree.edges):
        below, value = (*path, place), source
        number = ".".join(map(str, below))
        if shape.allocation(path, tree.merge) == "split":
            value = box(f"part {number}", f"part {place + 1} of {len(tree.edges)}", value)
        value = box(f"edge {number}", (edge.operation or IDENTITY).replace("_", " "), value)
        values.append(value if edge.below is None else _draw(nodes, edge.below, below, value, shape))
    if tree.merge == "none":
        return values[0]
    number = sum(n.op != "part" for n in nodes) + 1
    nodes.append(node(f"node {number}" if path else "output", tree.merge, values))
    return nodes[-1].name
