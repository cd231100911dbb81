"""The gates of a supernet, a graph with `mix` nodes: their inputs are a search's options. Standard library only."""

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture

NO_CHILD = (
    "a mix is an open choice of a supernet, which cannot be built or trained as it is; restrict the supernet first"
)


def gate_sizes(supernet: Architecture) -> dict[str, int]:
    """Return the length of each gate vector by its name, in the order of the nodes; none if nothing is mixed.

    Raises:
        InvalidArchitecture: two nodes share a gate, but have not equally many inputs.
    """
    first: dict[str, tuple[str, int]] = {}
    for n in supernet.nodes:
        if n.op != "mix":
            continue
        other, size = first.setdefault(n.attribute("gate"), (n.name, len(n.inputs)))
        if size != len(n.inputs):
            raise InvalidArchitecture(
                f"nodes of one gate have equally many inputs, but {other!r} and {n.name!r} share the gate"
                f" {n.attribute('gate')!r} and have {size} and {len(n.inputs)}"
            )
    return {gate: size for gate, (_, size) in first.items()}


def check_child(architecture: Architecture) -> None:
    """Raise `InvalidArchitecture` for a supernet, which is no network to be trained as it is."""
    for n in architecture.nodes:
        if n.op == "mix":
            raise InvalidArchitecture(f"node {n.name!r} is mixed: {NO_CHILD}")
