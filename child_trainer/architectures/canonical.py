"""A description of a labelled DAG that does not depend on names or order. Standard library only.

Colour refinement (as in NAS-Bench's graph hash, but in both directions and to a fixed point): a node's first colour
is made of its label and its depth; each round refines it by the colours of its sources and of its readers, until
nothing changes. Isomorphic graphs get equal certificates. Where refinement distinguishes all nodes (or all but
interchangeable ones), graphs that are not isomorphic get different certificates; refinement is known to miss
differences only between highly regular graphs.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

Colours = list[int]
"""One colour for each node, in the order of the labels."""


@dataclass(frozen=True, slots=True)
class Form:
    """A certificate without its labels, which graphs have in common that differ in labels alone.

    Attributes:
        nodes: the number of the node in each row.
        rows: the text, with `%s` in place of each row's label.
    """

    nodes: Sequence[int]
    rows: str

    def filled(self, labels: Sequence[str]) -> str:
        """Return the certificate, given each node's `label_json`."""
        return self.rows % tuple([labels[number] for number in self.nodes])


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph without its labels. Its inputs are nodes, too. Nodes have numbers instead of names, for speed.

    Attributes:
        sources: what each node reads; the inputs of the graph read nothing.
        commute: whether the order of what it reads does not matter.
        outputs: the nodes whose values leave the graph, in order.
        depths: the length in edges of the longest path from an input to each node.
    """

    sources: Sequence[tuple[int, ...]]
    commute: Sequence[bool]
    outputs: Sequence[int]
    depths: Sequence[int]

    @classmethod
    def of(
        cls, names: Sequence[str], inputs: Sequence[Sequence[str]], commute: Sequence[bool], outputs: Sequence[str]
    ) -> "Graph":
        """Return the graph of some nodes, whose numbers are their places in `names`.

        Args:
            names: of the nodes, each after what it reads, and then of the inputs of the graph.
            inputs: what each node reads.
            commute: for each node, whether the order of what it reads does not matter.
            outputs: the nodes whose values leave the graph, in order.
        """
        number = {name: place for place, name in enumerate(names)}
        sources = [tuple([number[source] for source in read]) for read in inputs]
        rest = len(names) - len(sources)
        sources += [()] * rest
        return cls(sources, [*commute, *[False] * rest], [number[name] for name in outputs], _depths(sources, rest))

    def first_keys(self, labels: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what the nodes' first colours are the `ranks` of, given their labels."""
        leaves = [()] * len(labels)
        for node in set(self.outputs):
            leaves[node] = tuple([i for i, output in enumerate(self.outputs) if output == node])
        return list(zip(self.depths, labels, leaves, strict=True))

    def form(self, colours: Colours) -> Form:
        """Return the form of the certificate, given the first colours."""
        colours = self._refined(colours)
        reads = self._reads(range(len(colours)), colours)
        # Nodes of one colour have equal rows.
        nodes = sorted(range(len(colours)), key=colours.__getitem__)
        rows = ", ".join([f"[{colours[node]}, %s, {reads[node]}]" for node in nodes])
        return Form(nodes, f"[[{rows}], {[colours[output] for output in self.outputs]}]")

    def _refined(self, colours: Colours) -> Colours:
        """Return the colours refined until nothing changes; nodes of one colour stay in the order of their keys."""
        alike = _alike(range(len(colours)), colours)
        readers = self._readers({node for nodes in alike for node in nodes}) if alike else {}
        while alike:
            added, place = [0] * len(colours), dict[int, int]()
            for nodes in alike:
                read = map(tuple, self._reads(nodes, colours))
                its, count = ranks(list(zip(read, _read_by(nodes, readers, colours), strict=True)))
                place.update(zip(nodes, its, strict=True))
                added[colours[nodes[0]]] = count - 1
            if not any(added):
                break
            first = [colour + more for colour, more in enumerate(accumulate(added, initial=0))]
            colours = [first[colour] for colour in colours]
            for node, its in place.items():
                colours[node] += its
            alike = [finer for nodes in alike for finer in _alike(nodes, colours)]
        return colours

    def _reads(self, nodes: Iterable[int], colours: Colours) -> list[list[int]]:
        """Return the colours of what some nodes read."""
        sources, commute = self.sources, self.commute
        return [
            sorted([colours[source] for source in sources[node]])
            if commute[node]
            else [colours[source] for source in sources[node]]
            for node in nodes
        ]

    def _readers(self, nodes: Container[int]) -> dict[int, list[tuple[int, int]]]:
        """Return who reads each of some nodes, and at which position: -1 where the order does not matter."""
        readers: dict[int, list[tuple[int, int]]] = {}
        for reader, (read, any_order) in enumerate(zip(self.sources, self.commute, strict=True)):
            for position, source in enumerate(read):
                if source in nodes:
                    readers.setdefault(source, []).append((reader, -1 if any_order else position))
        return readers


def certificate(graph: Graph, labels: Sequence[str]) -> str:
    """Return the certificate of a graph as JSON, given what distinguishes its nodes."""
    colours, _ = ranks(graph.first_keys(labels))
    return graph.form(colours).filled([label_json(label) for label in labels])


@lru_cache(maxsize=4096)  # to write the label of each node again takes as long as all else
def label_json(label: str) -> str:
    """Return a label as a certificate has it."""
    return json.dumps(label)


def ranks(keys: Sequence[Any]) -> tuple[Colours, int]:
    """Return the rank of each key among the distinct keys, and how many distinct keys there are."""
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys], len(order)


def _alike(nodes: Iterable[int], colours: Colours) -> list[list[int]]:
    """Return those of some nodes that share their colour with others, by colour."""
    by_colour: dict[int, list[int]] = {}
    for node in nodes:
        by_colour.setdefault(colours[node], []).append(node)
    return [its for its in by_colour.values() if len(its) > 1]


def _read_by(
    nodes: Iterable[int], readers: Mapping[int, Sequence[tuple[int, int]]], colours: Colours
) -> list[tuple[tuple[int, int], ...]]:
    """Return the colours of some nodes' readers, with the position at which they read."""
    return [
        tuple(sorted([(colours[reader], position) for reader, position in readers.get(node, ())])) for node in nodes
    ]


def _depths(sources: Sequence[tuple[int, ...]], inputs: int) -> list[int]:
    """Return the length in edges of the longest path from an input to each node; the last `inputs` are the inputs."""
    depth = [0] * len(sources)
    for node, read in enumerate(sources[:-inputs]):
        # Most nodes read one other, and `max` of one number would take longer than all else here.
        depth[node] = 1 + (depth[read[0]] if len(read) == 1 else max([depth[source] for source in read], default=0))
    return depth
