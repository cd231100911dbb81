"""The child of a supernet that a choice at each gate leaves. Standard library only.

Nodes keep their names, by which a child finds its weights among the supernet's.
"""

from collections.abc import Mapping, Sequence, Sized

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.architectures.gates import gate_sizes

Gates = Mapping[str, Sequence[float]]
"""A number for each input of the nodes that have this gate, by the gate's name."""


def restrict(supernet: Architecture, gates: Gates) -> Architecture:
    """Return the network that the supernet is when each gate is 0 or 1, without the nodes that it then does not use.

    What reads a mix with one chosen input reads that input; of several, it becomes the sum. A mix without any is 0:
    a sum leaves it out, and for every other reader it becomes a `zero` that reads the mix's first input.

    Args:
        supernet: a graph with `mix` nodes.
        gates: for each gate of the supernet, a 0 or 1 for each input.

    Raises:
        ValueError: a gate is missing or unknown, or has the wrong length or other numbers than 0 and 1.
        InvalidArchitecture: nodes of one gate have not equally many inputs.
    """
    check_gates(gate_sizes(supernet), gates)
    for name, values in gates.items():
        if any(value not in (0, 1) for value in values):
            raise ValueError(f"the gate {name!r} of a restriction must be 0 or 1 for each input, got {list(values)}")
    restriction = _Restriction(gates)
    for n in supernet.ordered:
        restriction.add(n)
    outputs = tuple(restriction.value(name) for name in supernet.outputs)
    return Architecture(supernet.kind, tuple(restriction.nodes), outputs, supernet.hyperparameters).pruned()


def check_gates(sizes: Mapping[str, int], gates: Mapping[str, Sized]) -> None:
    """Raise `ValueError` unless there are as many numbers for each gate as its size says, and no other gates."""
    for name, size in sizes.items():
        if name not in gates:
            raise ValueError(f"the gate {name!r} of the supernet takes {size} numbers, got none")
        if len(gates[name]) != size:
            raise ValueError(f"the gate {name!r} of the supernet takes {size} numbers, got {len(gates[name])}")
    if unknown := sorted(gates.keys() - sizes.keys()):
        raise ValueError(f"the supernet has no gate {unknown[0]!r}; its gates are {', '.join(sizes) or 'none'}")


class _Restriction:
    """The restricted nodes so far, and what stands for each node of the supernet that is not among them."""

    def __init__(self, gates: Gates) -> None:
        self.nodes: list[Node] = []
        self._gates = gates
        self._stands_for: dict[str, str] = {}
        self._absent: dict[str, str] = {}  # What is 0, with a node whose value has its shape.
        self._zeros: set[str] = set()

    def add(self, n: Node) -> None:
        """Add what is left of a node, whose sources have been added."""
        if n.op == "mix":
            read = zip(n.inputs, self._gates[n.attribute("gate")], strict=True)
            self._add_sum(n, [source for source, gate in read if gate])
        elif n.op == "add" and not self._absent.keys().isdisjoint(n.inputs):
            self._add_sum(n, n.inputs)
        else:
            inputs = tuple(self.value(source) for source in n.inputs)
            self.nodes.append(n if inputs == n.inputs else Node(n.name, n.op, inputs, n.attributes))

    def value(self, name: str) -> str:
        """Return the name of the node that has the value of this one of the supernet."""
        if name in self._absent and name not in self._zeros:
            self._zeros.add(name)
            self.nodes.append(node(name, "zero", self._absent[name]))
        return self._stands_for.get(name, name)

    def _add_sum(self, n: Node, sources: Sequence[str]) -> None:
        present = [self.value(source) for source in sources if source not in self._absent]
        if not present:
            self._absent[n.name] = self._absent.get(n.inputs[0], self._stands_for.get(n.inputs[0], n.inputs[0]))
        elif len(present) == 1:
            self._stands_for[n.name] = present[0]
        else:
            self.nodes.append(node(n.name, "add", present))
