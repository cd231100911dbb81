"""A description of a labelled DAG that does not depend on names or order. Standard library only.

Colour refinement (as in NAS-Bench's graph hash, but in both directions and to a fixed point): nodes start
with a colour made of their label and depth, and are told apart by the colours of what they read and of what
reads them until nothing changes. Isomorphic graphs get equal certificates. Where refinement tells all nodes
apart (or leaves only interchangeable ones) unequal graphs get unequal certificates too; it is known to
miss differences only between highly regular graphs.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

Colours = dict[str, int]


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
    consumers: dict[str, list[tuple[str, int]]] = {name: [] for name in labels}
    for name, sources in inputs.items():
        for position, source in enumerate(sources):
            consumers[source].append((name, -1 if name in commutative else position))

    def read(name: str, colours: Colours) -> tuple[int, ...]:
        found = [colours[source] for source in inputs.get(name, ())]
        return tuple(sorted(found) if name in commutative else found)

    # The text of a label is asked for once: it takes as long as the rest.
    texts = {name: repr(label) for name, label in labels.items()}
    colours = _ranks(_initial(texts, inputs, outputs))
    while True:
        signatures = {
            name: (
                colours[name],
                read(name, colours),
                tuple(sorted((colours[reader], position) for reader, position in consumers[name])),
            )
            for name in labels
        }
        refined = _ranks(signatures)
        if len(set(refined.values())) == len(set(colours.values())):
            break
        colours = refined
    rows = sorted((colours[name], text, read(name, colours)) for name, text in texts.items())
    return [rows, [colours[name] for name in outputs]]


def _initial(
    texts: Mapping[str, str], inputs: Mapping[str, Sequence[str]], outputs: Sequence[str]
) -> dict[str, tuple[int, str, tuple[int, ...]]]:
    depth = dict.fromkeys(texts, 0)
    for name, sources in inputs.items():
        depth[name] = 1 + max((depth[source] for source in sources), default=0)
    leaves = {name: tuple(i for i, output in enumerate(outputs) if output == name) for name in texts}
    return {name: (depth[name], text, leaves[name]) for name, text in texts.items()}


def _ranks(keys: Mapping[str, Any]) -> Colours:
    order = {key: rank for rank, key in enumerate(sorted(set(keys.values())))}
    return {name: order[key] for name, key in keys.items()}
