"""Cells that are trees (Cai et al. 2018, arXiv 1806.02639, section 3; spec §9.2). Standard library only.

A node hands its input to its edges. An edge applies an operation, and may lead to a further node, which works on what
the operation gives. A node merges what comes back from its edges: their mean, or their concatenation. With a single
edge there is nothing to merge.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from controller.decisions import InvalidTokens

Merge = Literal["none", "add", "concat"]

MERGES: tuple[tuple[Merge, int], ...] = (("none", 1), ("add", 2), ("add", 3), ("concat", 2))
"""How a node can merge how many edges, in the order of the options."""

START = "conv_3x3"
"""The operation of the root's edges: the convolution in whose place the tree has grown."""

IDENTITY = "identity"

Path = tuple[int, ...]
"""The places of edges, from the root on: that of an edge, or of the node that it leads to. () is the root."""

_WORD = re.compile(r"\s*([a-z0-9_]+|[(),>])")


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of a tree.

    Attributes:
        operation: its name; `None`: an identity in whose place an operation may come.
        below: the node that it leads to.
    """

    operation: str | None
    below: "TreeNode | None" = None


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of a tree, with what is below it."""

    merge: Merge
    edges: tuple[Edge, ...]


DecisionKind = Literal["merge", "operation", "insert"]


@dataclass(frozen=True, slots=True)
class TreeDecision:
    """A decision about a growing tree.

    Attributes:
        kind: `merge`: which of `MERGES` a node with one edge becomes; `operation`: what comes in the place of an
            edge's identity; `insert`: whether a node is inserted below an edge (0: no, 1: yes).
        path: of the node, or of the edge.
    """

    kind: DecisionKind
    path: Path


@dataclass(frozen=True, slots=True)
class Growth:
    """A tree that grows.

    Attributes:
        tree: so far.
        agenda: the decisions that are known to come, the next one last.
    """

    tree: TreeNode
    agenda: tuple[TreeDecision, ...]


START_TREE = TreeNode("none", (Edge(START),))
"""The cell that all others grow from: the convolution alone."""


def node_at(tree: TreeNode, path: Path) -> TreeNode:
    """Return the node at a path."""
    for place in path:
        below = tree.edges[place].below
        assert below is not None, f"no node at {path}"
        tree = below
    return tree


def edge_at(tree: TreeNode, path: Path) -> Edge:
    """Return the edge at a path."""
    return node_at(tree, path[:-1]).edges[path[-1]]


def with_node(tree: TreeNode, path: Path, new: TreeNode) -> TreeNode:
    """Return the tree with another node at a path."""
    return with_edge(tree, path, replace(edge_at(tree, path), below=new)) if path else new


def with_edge(tree: TreeNode, path: Path, new: Edge) -> TreeNode:
    """Return the tree with another edge at a path."""
    parent, place = node_at(tree, path[:-1]), path[-1]
    edges = (*parent.edges[:place], new, *parent.edges[place + 1 :])
    return with_node(tree, path[:-1], replace(parent, edges=edges))


def edges_of(tree: TreeNode, path: Path = ()) -> Iterator[tuple[Path, Edge]]:
    """Yield every edge below a node with its path, each before those below it."""
    for place, edge in enumerate(tree.edges):
        yield (*path, place), edge
        if edge.below is not None:
            yield from edges_of(edge.below, (*path, place))


def undecided(tree: TreeNode) -> TreeNode:
    """Return the tree with operations to be decided in the place of its identities."""
    edges = tuple(
        Edge(None if edge.operation == IDENTITY else edge.operation, edge.below and undecided(edge.below))
        for edge in tree.edges
    )
    return replace(tree, edges=edges)


def decisions_at(tree: TreeNode, path: Path, max_depth: int) -> list[TreeDecision]:
    """Return the decisions that come at a node and below it, in their order.

    A node with one edge that nothing is below decides how it merges, which its other decisions depend on.
    """
    node = node_at(tree, path)
    edge = node.edges[0]
    if node.merge == "none" and edge.below is None and edge.operation in (None, START):
        return [TreeDecision("merge", path)]
    return decisions_below(tree, path, max_depth)


def decisions_below(tree: TreeNode, path: Path, max_depth: int) -> list[TreeDecision]:
    """Return the decisions on a node's edges: first their operations, then what is below each."""
    node = node_at(tree, path)
    paths = [(*path, place) for place in range(len(node.edges))]
    found = [
        TreeDecision("operation", at) for at, edge in zip(paths, node.edges, strict=True) if edge.operation is None
    ]
    for at, edge in zip(paths, node.edges, strict=True):
        if edge.below is not None:
            found += decisions_at(tree, at, max_depth)
        elif len(at) < max_depth:
            found.append(TreeDecision("insert", at))
    return found


def text_of(tree: TreeNode) -> str:
    """Return the tree on one line, such as `add(conv_3x3 > concat(max_3x3, identity), conv_3x3)`.

    `>` leads to what is below an edge.
    """
    edges = [
        (edge.operation or IDENTITY) + (f" > {text_of(edge.below)}" if edge.below is not None else "")
        for edge in tree.edges
    ]
    return edges[0] if tree.merge == "none" else f"{tree.merge}({', '.join(edges)})"


def tree_of(text: str) -> TreeNode:
    """Return the tree that `text_of` wrote.

    Raises:
        InvalidTokens: it is no tree; the message names the word at which that shows.
    """
    words, at = list[str](), 0
    while text[at:].strip():
        match = _WORD.match(text, at)
        if match is None:
            raise InvalidTokens(f"a tree is made of names, parentheses, commas and >, got {text[at:].strip()[:20]!r}")
        words.append(match.group(1))
        at = match.end()
    rest = list(reversed(words))
    tree = _read_node(rest)
    if rest:
        raise InvalidTokens(f"a tree must end after {words[-len(rest) - 1]!r}, got {rest[-1]!r} behind it")
    return tree


def _read_node(rest: list[str]) -> TreeNode:
    if rest and rest[-1] in ("add", "concat"):
        merge: Merge = "add" if rest.pop() == "add" else "concat"
        _expect(rest, "(")
        edges = [_read_edge(rest)]
        while rest and rest[-1] == ",":
            rest.pop()
            edges.append(_read_edge(rest))
        _expect(rest, ")")
        if (merge, len(edges)) not in MERGES:
            raise InvalidTokens(f"a tree has an add of 2 or 3 edges or a concat of 2, got a {merge} of {len(edges)}")
        return TreeNode(merge, tuple(edges))
    return TreeNode("none", (_read_edge(rest),))


def _read_edge(rest: list[str]) -> Edge:
    if not rest or rest[-1] in "(),>":
        raise InvalidTokens(f"a tree needs an operation, got {_next(rest)}")
    operation = rest.pop()
    if rest and rest[-1] == ">":
        rest.pop()
        return Edge(operation, _read_node(rest))
    return Edge(operation)


def _expect(rest: list[str], sign: str) -> None:
    if not rest or rest[-1] != sign:
        raise InvalidTokens(f"a tree needs {sign!r}, got {_next(rest)}")
    rest.pop()


def _next(rest: Sequence[str]) -> str:
    return repr(rest[-1]) if rest else "its end"
