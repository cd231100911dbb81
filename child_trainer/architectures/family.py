"""Networks of one graph, which differ only in the operations of some nodes. Standard library only."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from operator import getitem, itemgetter
from typing import TypeVar, cast

from child_trainer.architectures.architecture import Architecture, Kind, digest_of, id_of, labelled_graph
from child_trainer.architectures.canonical import Form, label_json, ranks
from child_trainer.architectures.operation_types import OPERATIONS

T = TypeVar("T")


class Family:
    """Makes the networks of one graph in a fifth of the time: a search of a table makes thousands of them.

    A member has at each place a node of the given networks, with the name and the inputs that all of them have there,
    so that it is valid as they are. For its id and its digest it takes what they have of this node.

    Args:
        options: the member in which every choice takes its first option, the one with every second option, and so on.
        choices: the number of the choice that decides a node's operation and attributes, by the node's name. Other
            nodes are the same in all members.

    Raises:
        ValueError: the networks do not have one graph, whose nodes come after what they read and all count, or an
            operation joins channels, so that the order of what it reads may count in some members and not in others.
    """

    def __init__(self, options: Sequence[Architecture], choices: Mapping[str, int]) -> None:
        first, graphs = options[0], [labelled_graph(option) for option in options]
        self._graph = graphs[0][0]
        if any(graph != self._graph for graph, _ in graphs) or any(_wiring(one) != _wiring(first) for one in options):
            raise ValueError("the networks of a family must have one graph, with equal names")
        if first.live_nodes() != first.nodes:
            raise ValueError("the nodes of a family must be in order, and its outputs must depend on all of them")
        if any(OPERATIONS[n.op].channels == "joined" for option in options for n in option.nodes):
            raise ValueError("a family may have no operation that joins channels")
        self._kind: Kind = first.kind
        self._outputs, self._hyperparameters = first.outputs, first.hyperparameters
        self._nodes = list(zip(*(option.nodes for option in options), strict=True))
        if changed := [n.name for n, *others in self._nodes if n.name not in choices and any(o != n for o in others)]:
            raise ValueError(f"no choice decides the node {changed[0]!r}, which differs in a family's networks")

        always = max(choices.values()) + 1  # the number of a choice that always takes the first option
        names = [n.name for n in first.nodes]
        numbers = [choices.get(name, always) for name in names]
        self._options = itemgetter(*numbers, *[always] * (len(self._graph.sources) - len(names)))
        keys = [self._graph.first_keys(labels) for _, labels in graphs]
        found, _ = ranks([key for each in zip(*keys, strict=True) for key in each])
        count = len(options)
        self._first = [found[start : start + count] for start in range(0, len(found), count)]
        self._labels = list(zip(*([label_json(label) for label in labels] for _, labels in graphs), strict=True))
        self._form = lru_cache(maxsize=1024)(self._new_form)

        data = [option.to_json() for option in options]
        self._texts = list(zip(*([json.dumps(n) for n in one["nodes"]] for one in data), strict=True))
        self._text = json.dumps(data[0] | {"nodes": []}).split("[]", 1)

    def member(self, *chosen: int) -> Architecture:
        """Return the network in which each choice takes the option with this number."""
        options = self._options((*chosen, 0))
        colours, _ = ranks(list(_taken(self._first, options)))
        graph = self._form(tuple(colours)).filled(list(_taken(self._labels, options)))
        text = f"[{', '.join(_taken(self._texts, options))}]".join(self._text)
        known = {"id": id_of(self._kind, graph, self._hyperparameters), "digest": digest_of(text)}
        nodes = tuple(_taken(self._nodes, options))
        return Architecture.unchecked(self._kind, nodes, self._outputs, self._hyperparameters, known=known)

    def _new_form(self, colours: tuple[int, ...]) -> Form:
        return self._graph.form(list(colours))


def _taken(each: Sequence[Sequence[T]], options: Sequence[int]) -> Iterator[T]:
    """Return what each node has for its option."""
    return cast(Iterator[T], map(getitem, each, options))


def _wiring(architecture: Architecture) -> tuple[object, ...]:
    nodes = [(n.name, n.inputs) for n in architecture.nodes]
    return architecture.kind, nodes, architecture.outputs, architecture.hyperparameters
