"""A description of a labelled DAG that does not depend on names or order. Standard library only.

Colour refinement (as in NAS-Bench's graph hash, but in both directions and to a fixed point): a node's first colour
is made of its label and its depth; each round refines it by the colours of its sources and of its readers, until
nothing changes. Isomorphic graphs get equal certificates. Where refinement distinguishes all nodes (or all but
interchangeable ones), graphs that are not isomorphic get different certificates; refinement is known to miss
differences only between highly regular graphs.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

Label = tuple[str | tuple[tuple[str, str], ...], ...]
"""What distinguishes nodes, in nested tuples of texts."""

Colours = list[int]
"""One colour for each node, in the order of the labels."""


def certificate(
    labels: Mapping[str, Label],
    inputs: Mapping[str, Sequence[str]],
    commutative: Collection[str],
    outputs: Sequence[str],
) -> list[Any]:
    """Return the certificate of a graph, as plain data.

    Args:
        labels: the label of each node and of each input of the graph.
        inputs: what each node reads; every node comes after what it reads.
        commutative: the nodes for which the order of their inputs does not matter.
        outputs: the nodes whose values leave the graph, in order.
    """
    # Numbers instead of names from here on, for speed: this is most of the work of a search of a table.
    number = {name: place for place, name in enumerate(labels)}
    commute = [name in commutative for name in labels]
    sources = [tuple([number[source] for source in inputs.get(name, ())]) for name in labels]

    texts = [_text(label) for label in labels.values()]
    depth = _depths(sources, [number[name] for name in inputs])
    leaves = [()] * len(texts)
    for name in set(outputs):
        leaves[number[name]] = tuple([i for i, output in enumerate(outputs) if output == name])
    colours, count = _ranks(list(zip(depth, texts, leaves, strict=True)))
    reads = _reads(sources, commute, colours)
    # Where all colours differ already, there is nothing to refine.
    readers = _readers(sources, commute) if count < len(texts) else []
    while count < len(texts):
        refined, finer = _ranks(list(zip(colours, reads, _read_by(readers, colours), strict=True)))
        if finer == count:
            break
        colours, count = refined, finer
        reads = _reads(sources, commute, colours)
    rows = sorted(zip(colours, texts, reads, strict=True))
    return [rows, [colours[number[name]] for name in outputs]]


@lru_cache(maxsize=4096)  # to make the text of a label takes as long as all else
def _text(label: Label) -> str:
    return repr(label)


def _readers(sources: Sequence[tuple[int, ...]], commute: Sequence[bool]) -> list[list[tuple[int, int]]]:
    """Return each node's readers, with the position at which they read it: -1 where the order does not matter."""
    readers: list[list[tuple[int, int]]] = [[] for _ in sources]
    for reader, (read, any_order) in enumerate(zip(sources, commute, strict=True)):
        for position, source in enumerate(read):
            readers[source].append((reader, -1 if any_order else position))
    return readers


def _read_by(readers: Sequence[Sequence[tuple[int, int]]], colours: Colours) -> list[tuple[tuple[int, int], ...]]:
    """Return the colours of each node's readers, with the position at which they read it."""
    return [
        tuple(sorted([(colours[reader], position) for reader, position in own]))
        if len(own) > 1
        else tuple([(colours[reader], position) for reader, position in own])
        for own in readers
    ]


def _reads(sources: Sequence[tuple[int, ...]], commute: Sequence[bool], colours: Colours) -> list[tuple[int, ...]]:
    """Return the colours of what each node reads."""
    reads = [tuple([colours[source] for source in read]) for read in sources]
    for place, any_order in enumerate(commute):
        if any_order:
            reads[place] = tuple(sorted(reads[place]))
    return reads


def _depths(sources: Sequence[tuple[int, ...]], ordered: Sequence[int]) -> list[int]:
    """Return the length in edges of the longest path from an input to each node.

    `ordered` has the nodes that are no inputs, each after what it reads.
    """
    depth = [0] * len(sources)
    for place in ordered:
        read = sources[place]
        # Most nodes read one other, and `max` of one number would take longer than all else here.
        depth[place] = 1 + (depth[read[0]] if len(read) == 1 else max([depth[source] for source in read], default=0))
    return depth


def _ranks(keys: Sequence[Any]) -> tuple[Colours, int]:
    """Return the rank of each key among the distinct keys, and how many distinct keys there are."""
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys], len(order)
