"""A network as data: a directed acyclic graph of named operations. Standard library only.

Every search space decodes into this one form, so that there is one builder, one drawing and one identity. Every
`Architecture` is valid: the constructor checks the data and raises `InvalidArchitecture` if it is not.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, Self

from child_trainer.architectures.canonical import Graph, certificate
from child_trainer.architectures.channel_order import read_in_order
from child_trainer.architectures.operation_types import OPERATIONS, Value

Kind = Literal["feedforward", "recurrent", "cell"]

INPUTS: Mapping[str, tuple[str, ...]] = {
    "feedforward": ("image",),
    "recurrent": ("x", "h", "c"),
    "cell": ("older", "newer"),
}
"""Names that nodes may read although no node defines them: the image, or the step's input and last state.

A cell of a feed-forward network reads the outputs of the two cells before it. It is for drawings: networks are built
from feed-forward graphs.
"""

MAX_OUTPUTS: Mapping[str, int] = {"feedforward": 8, "recurrent": 2, "cell": 1}
"""A feed-forward network outputs its features first. Further outputs serve training alone: the features of an auxiliary
head, or those of the sub-networks that are trained beside it. A recurrent cell outputs the next h and, if it keeps one,
the next c."""

Label = tuple[str, tuple[tuple[str, str], ...]]
"""What a node does: its operation, and its attributes by name with their values as JSON."""


class InvalidArchitecture(ValueError):
    """The data does not describe a valid network; the message names the place and the rule."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation in a network.

    Attributes:
        name: the node's name, unique within the architecture.
        op: the operation, one of `OPERATIONS`.
        inputs: names of the nodes (or of the architecture's inputs) that it reads, in order.
        attributes: the attributes that it sets, as pairs sorted by name; all others have their defaults.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: tuple[tuple[str, Value], ...] = ()

    def attribute(self, name: str) -> Any:
        """Return the attribute's value, or its default where the node does not set it."""
        return dict(self.attributes).get(name, OPERATIONS[self.op].attributes[name].default)

    def label(self) -> Label:
        """Return what the node does, apart from its name and its neighbours.

        Defaults are filled in, except those of attributes that are `added_later`.
        """
        return _label(self.op, self.attributes)


@lru_cache(maxsize=4096)
def _label(op: str, attributes: tuple[tuple[str, Value], ...]) -> Label:
    given: dict[str, Any] = dict(attributes)
    label: list[tuple[str, str]] = []
    for name, attribute in sorted(OPERATIONS[op].attributes.items()):
        value: Any = given.get(name, attribute.default)
        if attribute.added_later and value == attribute.default:
            continue  # Labels from before the attribute, and ids made of them, stay what they were.
        # Through the attribute's type, so that rates of 1 and of 1.0 are equal, and so are 0.0 and -0.0.
        label.append((name, json.dumps(attribute.of(value) or attribute.of())))
    return op, tuple(label)


def node(name: str, op: str, inputs: Sequence[str] | str, **attributes: Value) -> Node:
    """Return a node with its attributes by keyword; a single input may be given as a plain string."""
    sources = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    return Node(name, op, sources, tuple(sorted(attributes.items())))


@dataclass(frozen=True)
class Architecture:
    """A directed acyclic graph of operations, with the outputs that leave it.

    Attributes:
        kind: `feedforward` (reads `image`), `recurrent` (one step of a cell: reads `x`, `h`, `c`) or `cell` (a drawing
            of a part of a network: reads `older` and `newer`).
        nodes: the operations, in any order.
        outputs: names of the nodes whose values leave the graph: the features and (optionally) those of the auxiliary
            head or of further sub-networks, or next `h` and (optionally) next `c`.
        hyperparameters: training settings that are searched along with the graph (spec §1.4: `learning_rate`), as
            sorted pairs. They are part of the identity.

    Raises:
        InvalidArchitecture: the data breaks a rule; the message names the place and the rule.
    """

    kind: Kind
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    hyperparameters: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Messages carry many architectures: as plain tuples, which take less time than nodes, and with what has been
        # computed of them. As with every pickle, the receiver checks nothing again.
        rows = tuple([(n.name, n.op, n.inputs, n.attributes) for n in self.nodes])
        known = {name: self.__dict__[name] for name in ("id", "digest") if name in self.__dict__}
        return _unpickled, (type(self), self.kind, rows, self.outputs, self.hyperparameters, known)

    @classmethod
    def unchecked(
        cls,
        kind: Kind,
        nodes: tuple[Node, ...],
        outputs: tuple[str, ...],
        hyperparameters: tuple[tuple[str, float], ...] = (),
        *,
        known: Mapping[str, str],
    ) -> Self:
        """Return an architecture that is valid for sure; `known` has of its id and its digest what was computed."""
        architecture = object.__new__(cls)
        architecture.__dict__.update(kind=kind, nodes=nodes, outputs=outputs, hyperparameters=hyperparameters, **known)
        return architecture

    @cached_property
    def ordered(self) -> tuple[Node, ...]:
        """The nodes, each after everything that it reads; in the given order if that already holds."""
        by_name = {n.name: n for n in self.nodes}
        if _follows_order(self.nodes, set(by_name)):
            return self.nodes
        graph = {n.name: [i for i in n.inputs if i in by_name] for n in self.nodes}
        return tuple(by_name[name] for name in TopologicalSorter(graph).static_order())

    def live_nodes(self) -> tuple[Node, ...]:
        """Return the nodes on which an output depends, each after everything that it reads."""
        names = self._live_names()
        return tuple([n for n in self.ordered if n.name in names])

    def pruned(self) -> "Architecture":
        """Return the network without its dead nodes: those on which no output depends."""
        names = self._live_names()
        nodes = tuple([n for n in self.nodes if n.name in names])
        if len(nodes) == len(self.nodes):
            return self
        return Architecture(self.kind, nodes, self.outputs, self.hyperparameters)

    def without_auxiliary(self) -> "Architecture":
        """Return a feed-forward network without the nodes that only outputs after the first one depend on."""
        if self.kind != "feedforward" or len(self.outputs) == 1:
            return self
        return Architecture(self.kind, self.nodes, self.outputs[:1], self.hyperparameters).pruned()

    def _live_names(self) -> set[str]:
        names = set(self.outputs)
        for n in reversed(self.ordered):
            if n.name in names:
                names.update(n.inputs)
        return names

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits, equal for isomorphic networks: names, order and dead nodes do not count.

        The order of a concatenation's inputs counts where an operation behind it reads channels by place.
        Recorded runs refer to architectures by it, so it must never change (tests pin some).
        """
        return id_of(self.kind, certificate(*labelled_graph(self)), self.hyperparameters)

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits, equal for equal graphs only: unlike for `id`, names and order count."""
        return digest_of(json.dumps(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, from which `from_json` makes an equal architecture."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "nodes": [
                {"name": n.name, "op": n.op, "inputs": list(n.inputs), "attributes": dict(n.attributes)}
                for n in self.nodes
            ],
            "outputs": list(self.outputs),
        }
        return data | ({"hyperparameters": dict(self.hyperparameters)} if self.hyperparameters else {})

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Return the architecture that `data`, as `json.loads` returns it, describes.

        Raises:
            InvalidArchitecture: the data is not valid; the message names the first error and what would be right.
        """
        fields = _object(data, "an architecture", {"kind", "nodes", "outputs"}, {"hyperparameters"})
        nodes = tuple(_node_from_json(n, i) for i, n in enumerate(_list(fields["nodes"], "`nodes`")))
        hyperparameters = fields.get("hyperparameters", {})
        if not isinstance(hyperparameters, dict):
            raise InvalidArchitecture(f"`hyperparameters` must be an object, got {hyperparameters!r}")
        outputs = tuple(_list(fields["outputs"], "`outputs`"))
        return cls(fields["kind"], nodes, outputs, tuple(sorted(hyperparameters.items())))


def _unpickled(
    cls: type[Architecture],
    kind: Kind,
    rows: tuple[tuple[str, str, tuple[str, ...], tuple[tuple[str, Value], ...]], ...],
    outputs: tuple[str, ...],
    hyperparameters: tuple[tuple[str, float], ...],
    known: dict[str, str],
) -> Architecture:
    return cls.unchecked(kind, tuple([Node(*row) for row in rows]), outputs, hyperparameters, known=known)


def labelled_graph(architecture: Architecture) -> tuple[Graph, list[str]]:
    """Return the graph of the live nodes and of the inputs, and the label of each."""
    live, inputs = architecture.live_nodes(), INPUTS[architecture.kind]
    in_order = read_in_order(live, architecture.outputs, inputs)
    graph = Graph.of(
        [*[n.name for n in live], *inputs],
        [n.inputs for n in live],
        [OPERATIONS[n.op].commutative and n.name not in in_order for n in live],
        architecture.outputs,
    )
    return graph, [*[_label_text(n.op, n.attributes) for n in live], *[repr(("input", name)) for name in inputs]]


@lru_cache(maxsize=4096)  # by what the label is made of, as to look up the label takes twice as long
def _label_text(op: str, attributes: tuple[tuple[str, Value], ...]) -> str:
    return repr(_label(op, attributes))


def id_of(kind: Kind, graph: str, hyperparameters: Sequence[tuple[str, float]] = ()) -> str:
    """Return the id of an architecture, given the certificate of its live nodes."""
    settings = json.dumps([(name, float(value)) for name, value in hyperparameters])
    return hashlib.sha256(f"[{json.dumps(kind)}, {graph}, {settings}]".encode()).hexdigest()[:16]


def digest_of(text: str) -> str:
    """Return the digest of an architecture from its JSON text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _node_from_json(data: object, index: int) -> Node:
    fields = _object(data, f"node {index}", {"name", "op", "inputs"}, {"attributes"})
    attributes = fields.get("attributes", {})
    if not isinstance(attributes, dict):
        raise InvalidArchitecture(f"the attributes of node {index} must be an object, got {attributes!r}")
    inputs = tuple(_list(fields["inputs"], f"the inputs of node {index}"))
    return Node(fields["name"], fields["op"], inputs, tuple(sorted(attributes.items())))


def _object(data: object, what: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidArchitecture(f"{what} must be an object, got {type(data).__name__}")
    if missing := sorted(required - data.keys()):
        raise InvalidArchitecture(f"{what} lacks `{missing[0]}`")
    if unknown := sorted(data.keys() - required - optional):
        known = ", ".join(sorted(required | optional))
        raise InvalidArchitecture(f"{what} has an unknown field `{unknown[0]}`; it may have {known}")
    return data


def _list(data: object, what: str) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidArchitecture(f"{what} must be a list, got {data!r}")
    return data


def _check(architecture: Architecture) -> None:
    if not isinstance(architecture.kind, str) or architecture.kind not in INPUTS:
        kinds = ", ".join(INPUTS)
        raise InvalidArchitecture(f"`kind` must be one of {kinds}, got {architecture.kind!r}")
    names = _check_names(architecture)
    for n in architecture.nodes:
        _check_node(n, names)
    if not 1 <= len(architecture.outputs) <= MAX_OUTPUTS[architecture.kind]:
        most = MAX_OUTPUTS[architecture.kind]
        count = "exactly 1 output" if most == 1 else f"1 to {most} outputs"
        raise InvalidArchitecture(f"a {architecture.kind} architecture has {count}, got {len(architecture.outputs)}")
    for output in architecture.outputs:
        if not isinstance(output, str) or output not in names:
            raise InvalidArchitecture(f"output {output!r} is not a node")
    for name, value in architecture.hyperparameters:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise InvalidArchitecture(f"hyperparameter {name!r} must be a finite number, got {value!r}")
    _check_acyclic(architecture.nodes)


def _finite(value: float) -> bool:
    # Not `math.isfinite`, which raises for an integer too large for a float.
    return abs(value) <= sys.float_info.max


def _check_names(architecture: Architecture) -> set[str]:
    """Raise `InvalidArchitecture` for a bad or repeated name; return every name that a node may read."""
    names = set(INPUTS[architecture.kind])
    for n in architecture.nodes:
        if not isinstance(n.name, str) or not n.name:
            raise InvalidArchitecture(f"a node's name must be a non-empty string, got {n.name!r}")
        if n.name in names:
            reserved = " (an input of the network)" if n.name in INPUTS[architecture.kind] else ""
            raise InvalidArchitecture(f"the name {n.name!r} is used twice{reserved}")
        names.add(n.name)
    return names


def _check_node(n: Node, names: set[str]) -> None:
    if not isinstance(n.op, str) or n.op not in OPERATIONS:
        known = ", ".join(sorted(OPERATIONS))
        raise InvalidArchitecture(f"node {n.name!r} has the unknown operation {n.op!r}; the operations are {known}")
    operation = OPERATIONS[n.op]
    least, most = operation.min_inputs, operation.max_inputs
    if len(n.inputs) < least or (most is not None and len(n.inputs) > most):
        count = f"{least} or more inputs" if most is None else f"exactly {least} input{'s' if least > 1 else ''}"
        raise InvalidArchitecture(f"node {n.name!r} ({n.op}) takes {count}, got {len(n.inputs)}")
    for source in n.inputs:
        if not isinstance(source, str) or source not in names:
            raise InvalidArchitecture(f"node {n.name!r} reads {source!r}, which does not exist")
    try:
        problem = _problem(n.op, n.attributes, tuple([type(value) for _, value in n.attributes]))
    except TypeError:  # a value that cannot be hashed, such as a list
        problem = _problem.__wrapped__(n.op, n.attributes, ())
    if problem:
        subject, predicate = problem
        raise InvalidArchitecture(f"{subject} {n.name!r} ({n.op}) {predicate}")


@lru_cache(maxsize=4096)
def _problem(op: str, attributes: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> tuple[str, str] | None:
    """Return what is wrong with a node's attributes, as the sentence before and after its name, or `None`.

    `types` only separates values in the cache, for which 1, 1.0 and True are equal.
    """
    given, known = dict(attributes), OPERATIONS[op].attributes
    if unknown := sorted(given.keys() - known.keys()):
        return "node", f"has no attribute {unknown[0]!r}; it has: {', '.join(known) or 'none'}"
    for name, attribute in known.items():
        if name not in given and attribute.default is None:
            return "node", f"lacks the attribute {name!r}"
        if name in given and (problem := attribute.problem(given[name])):
            return f"the attribute {name!r} of node", problem
    return None


def _check_acyclic(nodes: tuple[Node, ...]) -> None:
    own = {n.name for n in nodes}
    if _follows_order(nodes, own):
        return
    try:
        TopologicalSorter({n.name: [i for i in n.inputs if i in own] for n in nodes}).prepare()
    except CycleError as error:
        path = " -> ".join(reversed(error.args[1]))
        raise InvalidArchitecture(f"the nodes form a cycle: {path}") from None


def _follows_order(nodes: tuple[Node, ...], own: set[str]) -> bool:
    """Return whether each node comes after everything that it reads among the nodes named `own`."""
    ahead = set(own)
    for n in nodes:
        if not ahead.isdisjoint(n.inputs):
            return False
        ahead.discard(n.name)
    return True
