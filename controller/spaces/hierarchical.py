"""The hierarchical space of Liu et al. 2018 (arXiv 1711.00436; spec §8): motifs that are made of smaller motifs.

A motif of level l is an ordered graph, each edge of which has an operation of level l - 1 or none. The operations of
level 1 are six primitives; the only motif of the highest level is the cell, of which the network is built.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture, Kind, Node, node
from child_trainer.architectures.operation_types import Value
from child_trainer.field_types import check_types
from controller.decisions import Choice, Decisions, InvalidTokens, Tokens, check_tokens
from controller.limits import MAX_CELLS, check_number

PRIMITIVES: Mapping[str, str] = MappingProxyType(
    {
        "conv_1x1": "X",
        "depthwise_3x3": "D",
        "separable_3x3": "S",
        "max_pool_3x3": "M",
        "avg_pool_3x3": "A",
        "identity": "I",
    }
)
"""The operations of level 1, with the letter that the spec writes for each."""

SINGLE_NODES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "conv_1x1": ("conv", 1),
        "depthwise_3x3": ("depthwise_conv", 3),
        "max_pool_3x3": ("max_pool", 3),
        "avg_pool_3x3": ("avg_pool", 3),
    }
)
"""The operation and the size of each primitive that is a single node."""

NONE = "none"
"""The option of an edge without an operation."""

MAX_OPERATIONS = 5_000
"""Upper bound for the operations of a cell whose motifs are replaced by what they are made of; a network of more takes
minutes to build."""

MAX_MUTATIONS = 100_000
"""Upper bound for `initial_mutations`, which take a second."""

STAGES = 3
"""Stages of the network; each later one halves the image and doubles the channels."""

PUBLISHED = """
M X S D X M
D X D X S S
S D S S I A
A S I S M A
I S S I I S
D M S M I A
5 3 3 4 3 1 5 3 5 5
"""
"""The cell that the paper found, in the notation of `HierarchicalSpace.tokens_of` (spec §8.3)."""

Edge = tuple[int, int]
"""The nodes (from, to) of an edge, numbered from 1."""

Motif = Mapping[Edge, int]
"""The operation of each edge: number k of those of the level below, counted from 1, or 0 for none."""


@dataclass(frozen=True, kw_only=True)
class HierarchicalSpace:
    """The operation of each edge of the motifs of each level; copies of the last motif, the cell, make a network."""

    motifs_per_level: tuple[int, ...] = (6, 1)
    """Motifs of level 2 and of each higher level; the highest has one, the cell. A flat space: 1."""
    nodes_per_level: tuple[int, ...] = (4, 5)
    """Nodes of a motif of level 2 and of each higher level. A flat space: 11."""
    channels: int = 16
    """Channels of the first stage, doubled for each later one (the paper's search 16, its evaluation 64)."""
    cells_per_stage: int = 1
    """Cells in each stage (the paper's search 1, its evaluation 2)."""
    initial_mutations: int = 1_000
    """Random mutations of identity chains that give a first sample."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("motifs_per_level", "nodes_per_level"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"`{name}` must be one or more numbers, each at least 1, got {getattr(self, name)}")
        if self.motifs_per_level[-1] != 1:
            raise ValueError(f"`motifs_per_level` must end in 1, the cell, got {self.motifs_per_level}")
        levels, nodes = len(self.motifs_per_level), self.nodes_per_level
        if levels != len(nodes):
            raise ValueError(
                f"`nodes_per_level` must have as many numbers as `motifs_per_level`, {levels}, got {nodes}"
            )
        if min(self.nodes_per_level) < 2:
            raise ValueError(
                f"`nodes_per_level` must each be at least 2, an input and an output, got {self.nodes_per_level}"
            )
        operations = math.prod(size * (size - 1) // 2 for size in self.nodes_per_level)
        if operations > MAX_OPERATIONS:
            raise ValueError(
                f"`nodes_per_level` must give a cell at most {MAX_OPERATIONS:,} operations, got {operations:,}: a motif"
                " of n nodes has n (n - 1) / 2 of the level below"
            )
        if self.channels < 1:
            raise ValueError(f"`channels` must be at least 1, got {self.channels}")
        check_number(self, "cells_per_stage", 1, MAX_CELLS)
        check_number(self, "initial_mutations", 0, MAX_MUTATIONS)

    @property
    def kind(self) -> Kind:
        """The kind of its architectures, feed-forward."""
        return "feedforward"

    @property
    def place_name(self) -> str:
        """What the places of its choices are, for people."""
        return "motif"

    def decisions(self, completed: int) -> Decisions:
        """Return the choices of the operation of each edge; they are the same throughout a search."""
        return _choices(self)

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of options of each choice, by the choice's name."""
        return {choice.name: len(choice.options) for choice in _choices(self)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decisions, of which there is a single sequence."""
        choices = _choices(self)
        if num_tokens != len(choices):
            raise InvalidTokens(f"the motifs of this space take {len(choices)} tokens, got {num_tokens}")
        return choices

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of the cell that the tokens encode (spec §8.1).

        A convolution, then three stages of cells with a separable convolution behind each cell. The last one of a
        stage halves the image and doubles the channels, except that of the last stage.
        """
        motifs = _read(self, tokens)
        nodes = [node("stem", "conv", "image", height=3, width=3, filters=self.channels)]
        for stage in range(1, STAGES + 1):
            assembly = _Assembly(self, motifs, self.channels * 2 ** (stage - 1), nodes)
            for number in range(1, self.cells_per_stage + 1):
                name = f"stage{stage}.cell{number}"
                reduces = number == self.cells_per_stage and stage < STAGES
                output = assembly.add_motif(name, len(self.motifs_per_level) + 1, 1, nodes[-1].name)
                assembly.add_separable(f"{name}.separable", output, stride=2 if reduces else 1)
        return Architecture("feedforward", tuple(nodes), (nodes[-1].name,))

    def first(self, completed: int, rng: random.Random) -> Tokens:
        """Return `initial_mutations` random mutations of motifs that are all chains of identities (spec §8.2)."""
        tokens = self.identity_chains()
        for _ in range(self.initial_mutations):
            tokens = self.mutate(tokens, rng)
        return tokens

    def identity_chains(self) -> Tokens:
        """Return the tokens of motifs that are chains of identities, or of the first motif of the level below."""
        identity = list(PRIMITIVES).index("identity")
        return tuple(
            identity if level == 2 and _in_chain(edge) else 0
            for level, _, motif_edges in _motif_edges(self)
            for edge in motif_edges
        )

    def mutate(self, tokens: Sequence[int], rng: random.Random) -> Tokens:
        """Return the sample with a random operation on a random edge (spec §8.2).

        The level, the motif, the edge's end and its beginning are drawn uniformly one after another, and then the
        operation: that which the edge has, and none where it may have none, included.
        """
        level = rng.randrange(len(self.motifs_per_level))
        number = rng.randrange(self.motifs_per_level[level])
        target = rng.randrange(2, self.nodes_per_level[level] + 1)
        source = rng.randrange(1, target)
        place = _places(self)[level + 2, number + 1, (source, target)]
        new = list(tokens)
        new[place] = rng.randrange(len(_choices(self)[place].options))
        return tuple(new)

    def tokens_of(self, genotype: str) -> Tokens:
        """Return the tokens of motifs in the spec's notation (§8.3), which `genotypes` writes.

        It has a line for each motif, the cell last, with the operations of the edges (1,2), (1,3), ... (2,3), ...:
        letters for the primitives X (1x1 convolution), D (depthwise), S (separable), M (maximum), A (average) and
        I (identity), numbers for motifs of the level below, and 0 for none.

        Raises:
            InvalidTokens: it has another number of motifs or edges, or an edge has an operation that it may not have.
        """
        lines = [line.split() for line in genotype.strip().splitlines()]
        known = _motif_edges(self)
        if len(lines) != len(known):
            raise InvalidTokens(f"a genotype of this space has {len(known)} lines, got {len(lines)}")
        tokens: list[int] = []
        for (level, number, edges), line in zip(known, lines, strict=True):
            if len(line) != len(edges):
                raise InvalidTokens(
                    f"motif {number} of level {level} has {len(edges)} edges, got {len(line)}: {' '.join(line)}"
                )
            for edge, word in zip(edges, line, strict=True):
                words = _words(self, level, edge)
                if word not in words:
                    raise InvalidTokens(
                        f"edge {edge} of motif {number} of level {level} must be one of {' '.join(words)}, got {word!r}"
                    )
                tokens.append(words.index(word))
        return tuple(tokens)

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the motifs in the notation that `tokens_of` reads."""
        check_tokens(self.decisions_of(len(tokens)), tokens)
        rest = iter(tokens)
        lines = [
            " ".join(_words(self, level, edge)[next(rest)] for edge in edges) for level, _, edges in _motif_edges(self)
        ]
        return {"HNAS": "\n".join(lines)}

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return each motif of the lower levels, and the cell, as a graph for people: a named part for each edge."""
        return {
            self._name_of(level, number): _picture(self, level, motif)
            for (level, number), motif in _read(self, tokens).items()
        }

    def motif_networks(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return each motif of the lower levels, and the cell, as a network with the channels of the first stage."""
        motifs = _read(self, tokens)
        networks: dict[str, Architecture] = {}
        for level, number in motifs:
            assembly = _Assembly(self, motifs, self.channels)
            output = assembly.add_motif("motif", level, number, "image")
            networks[self._name_of(level, number)] = Architecture("feedforward", tuple(assembly.nodes), (output,))
        return networks

    def _name_of(self, level: int, number: int) -> str:
        above = f"level {level}, " if len(self.motifs_per_level) > 2 else ""
        return "cell" if level == len(self.motifs_per_level) + 1 else f"{above}motif {number}"


@lru_cache(maxsize=64)
def _motif_edges(space: HierarchicalSpace) -> tuple[tuple[int, int, tuple[Edge, ...]], ...]:
    """Return the level, the number and the edges of each motif, in the order of their tokens."""
    return tuple(
        (level, number, tuple((j, i) for j in range(1, size) for i in range(j + 1, size + 1)))
        for level, (count, size) in enumerate(zip(space.motifs_per_level, space.nodes_per_level, strict=True), start=2)
        for number in range(1, count + 1)
    )


def _in_chain(edge: Edge) -> bool:
    """Return whether the edge joins neighbours. It must have an operation, so that no node is without an input."""
    return edge[1] == edge[0] + 1


@lru_cache(maxsize=64)
def _choices(space: HierarchicalSpace) -> tuple[Choice, ...]:
    """Return the choice of each edge. Its place is its motif's number; 0 is the cell, of which there is one."""
    choices: list[Choice] = []
    for level, number, edges in _motif_edges(space):
        top = level == len(space.motifs_per_level) + 1
        below = (
            tuple(PRIMITIVES)
            if level == 2
            else tuple(f"motif_{k}" for k in range(1, space.motifs_per_level[level - 3] + 1))
        )
        for j, i in edges:
            kind = f"cell_edge_{j}_{i}" if top else f"level_{level}_edge_{j}_{i}"
            choices.append(Choice(kind, below if _in_chain((j, i)) else (NONE, *below), 0 if top else number))
    return tuple(choices)


@lru_cache(maxsize=64)
def _places(space: HierarchicalSpace) -> Mapping[tuple[int, int, Edge], int]:
    """Return the position of each edge's token, by the level, the motif's number and the edge."""
    names = [(level, number, edge) for level, number, edges in _motif_edges(space) for edge in edges]
    return {name: place for place, name in enumerate(names)}


def _words(space: HierarchicalSpace, level: int, edge: Edge) -> tuple[str, ...]:
    """Return the word of each option of an edge of this level in the spec's notation."""
    motifs_below = space.motifs_per_level[level - 3] if level > 2 else 0
    below = tuple(PRIMITIVES.values()) if level == 2 else tuple(map(str, range(1, motifs_below + 1)))
    return below if _in_chain(edge) else ("0", *below)


def _read(space: HierarchicalSpace, tokens: Sequence[int]) -> Mapping[tuple[int, int], Motif]:
    """Return each motif by its level and number."""
    check_tokens(space.decisions_of(len(tokens)), tokens)
    rest = iter(tokens)
    return {
        (level, number): {edge: next(rest) + _in_chain(edge) for edge in edges}
        for level, number, edges in _motif_edges(space)
    }


def _picture(space: HierarchicalSpace, level: int, motif: Motif) -> Architecture:
    """Return a motif as a graph of kind `cell`, whose only input is `newer`."""
    names, nodes = {1: "newer"}, list[Node]()
    for target in range(2, space.nodes_per_level[level - 2] + 1):
        incoming = []
        for source in range(1, target):
            operation = motif[source, target]
            label = f"motif {operation}" if level > 2 else tuple(PRIMITIVES)[operation - 1].replace("_", " ")
            if operation and label != "identity":
                incoming.append(f"{source}-{target}")
                nodes.append(node(incoming[-1], "part", names[source], label=label))
            elif operation:
                incoming.append(names[source])
        names[target] = f"node {target}"
        nodes.append(node(names[target], "concat", incoming))
    last = names[space.nodes_per_level[level - 2]]
    output = node("output", "part", last, label="conv 1x1") if level == 2 else node("output", "identity", last)
    return Architecture("cell", (*nodes, output), ("output",))


@dataclass(frozen=True)
class _Assembly:
    """Adds motifs to a network; a motif's structure is shared among its copies, its weights are not."""

    space: HierarchicalSpace
    motifs: Mapping[tuple[int, int], Motif]
    channels: int
    nodes: list[Node] = field(default_factory=list)

    def add_motif(self, name: str, level: int, number: int, source: str) -> str:
        """Add a motif that reads `source`, and return the node of its output."""
        motif, last = self.motifs[level, number], self.space.nodes_per_level[level - 2]
        values = {1: source}
        for target in range(2, last + 1):
            incoming = [
                self._add_edge(f"{name}.{j}-{target}", level - 1, motif[j, target], values[j])
                for j in range(1, target)
                if motif[j, target]
            ]
            values[target] = incoming[0] if len(incoming) == 1 else self._add(f"{name}.{target}", "concat", incoming)
        if level > 2:
            return values[last]
        return self._add(f"{name}.out", "conv", values[last], height=1, width=1, filters=self.channels)

    def add_separable(self, name: str, source: str, stride: int = 1) -> str:
        """Add a 3x3 separable convolution, which doubles the channels if it has a stride, and return its node."""
        filters = self.channels * stride
        depthwise = self._add(
            f"{name}.depthwise",
            "depthwise_conv",
            source,
            height=3,
            width=3,
            stride_height=stride,
            stride_width=stride,
            order="conv-unbiased",
        )
        return self._add(name, "conv", depthwise, height=1, width=1, filters=filters)

    def _add_edge(self, name: str, level: int, operation: int, source: str) -> str:
        """Add the operation number `operation`, from 1, of this level, and return its node."""
        if level > 1:
            return self.add_motif(f"{name}.motif{operation}", level, operation, source)
        primitive = tuple(PRIMITIVES)[operation - 1]
        if primitive == "identity":
            return source
        if primitive == "separable_3x3":
            return self.add_separable(name, source)
        op, size = SINGLE_NODES[primitive]
        filters = {"filters": self.channels} if op == "conv" else {}
        return self._add(name, op, source, height=size, width=size, **filters)

    def _add(self, name: str, operation: str, sources: Sequence[str] | str, **attributes: Value) -> str:
        self.nodes.append(node(name, operation, sources, **attributes))
        return name
