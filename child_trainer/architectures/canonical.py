"""A description of a labelled DAG that does not depend on names or order. Standard library only.

Colour refinement (as in NAS-Bench's graph hash, but in both directions and to a fixed point): nodes start
with a colour made of their label and depth, and are told apart by the colours of what they read and of what
reads them until nothing changes. Isomorphic graphs get equal certificates. Where refinement tells all nodes
apart (or leaves only interchangeable ones) unequal graphs get unequal certificates too; it is known to
miss differences only between highly regular graphs.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

Colours = list[int]
"""One for each node, in the order of the labels."""


def certificate(
    labels: Mapping[str, Hashable],
    inputs: Mapping[str, Sequence[str]],
    commutative: Collection[str],
    outputs: Sequence[str],
) -> list[Any]:
    """The certificate, as plain data.

    Args:
        labels: what each node is, the graph's own inputs included.
        inputs: for each inner node, in an order in which every node follows what it reads, its inputs.
        commutative: the nodes to which the order of their inputs does not matter.
        outputs: the nodes that leave the graph, in order.
    """
    # By number instead of name from here on: a search of a table has little else to do than this.
    number = {name: place for place, name in enumerate(labels)}
    commute = [name in commutative for name in labels]
    sources = [tuple([number[source] for source in inputs.get(name, ())]) for name in labels]

    # The text of a label that many nodes share is asked for once: it takes as long as the rest.
    written = {key: repr(label) for key, label in {id(label): label for label in labels.values()}.items()}
    texts = [written[id(label)] for label in labels.values()]
    depth = _depths(sources, [number[name] for name in inputs])
    leaves = [()] * len(texts)
    for name in set(outputs):
        leaves[number[name]] = tuple([i for i, output in enumerate(outputs) if output == name])
    colours, count = _ranks(list(zip(depth, texts, leaves, strict=True)))
    reads = _reads(sources, commute, colours)
    # Nodes that are all unlike cannot be told apart any further.
    readers = _readers(sources, commute) if count < len(texts) else []
    while count < len(texts):
        refined, finer = _ranks(list(zip(colours, reads, _read_by(readers, colours), strict=True)))
        if finer == count:
            break
        colours, count = refined, finer
        reads = _reads(sources, commute, colours)
    rows = sorted(zip(colours, texts, reads, strict=True))
    return [rows, [colours[number[name]] for name in outputs]]


def _readers(sources: Sequence[tuple[int, ...]], commute: Sequence[bool]) -> list[list[tuple[int, int]]]:
    """What reads each node, and at which place: -1 where the order does not matter."""
    readers: list[list[tuple[int, int]]] = [[] for _ in sources]
    for reader, (read, any_order) in enumerate(zip(sources, commute, strict=True)):
        for position, source in enumerate(read):
            readers[source].append((reader, -1 if any_order else position))
    return readers


def _read_by(readers: Sequence[Sequence[tuple[int, int]]], colours: Colours) -> list[tuple[tuple[int, int], ...]]:
    """What reads each node, by colour, and at which place."""
    return [
        tuple(sorted([(colours[reader], position) for reader, position in found]))
        if len(found) > 1
        else tuple([(colours[reader], position) for reader, position in found])
        for found in readers
    ]


def _reads(sources: Sequence[tuple[int, ...]], commute: Sequence[bool], colours: Colours) -> list[tuple[int, ...]]:
    """What each node reads, by colour."""
    found = [tuple([colours[source] for source in read]) for read in sources]
    for place, any_order in enumerate(commute):
        if any_order:
            found[place] = tuple(sorted(found[place]))
    return found


def _depths(sources: Sequence[tuple[int, ...]], ordered: Sequence[int]) -> list[int]:
    """Edges on the longest way from an input to each node; `ordered` has the inner nodes, each after what it reads."""
    depth = [0] * len(sources)
    for place in ordered:
        read = sources[place]
        # Most nodes read one other, and to ask for the greatest of one takes longer than all else here.
        depth[place] = 1 + (depth[read[0]] if len(read) == 1 else max([depth[source] for source in read], default=0))
    return depth


def _ranks(keys: Sequence[Any]) -> tuple[Colours, int]:
    """The place of each key among those that differ, and how many these are."""
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys], len(order)
