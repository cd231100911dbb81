"""What the options of a supernet's gates are called. Standard library only."""

from child_trainer.architectures.architecture import Architecture, Node

IDENTITY = "identity"
"""The name of an option that hands on a value as it is."""

SKIPS = frozenset({IDENTITY, "skip_connect"})
"""Names of skip connections."""

NONE = "none"
"""The name of an option that is no connection."""


def option_names(supernet: Architecture) -> dict[str, tuple[str, ...]]:
    """Return the names of each gate's options, by the gate's name.

    An option is called as its node is within the part of the graph that belongs to the choice. One that belongs to no
    such part is a value from elsewhere, handed on as it is.
    """
    names: dict[str, tuple[str, ...]] = {}
    for node in supernet.nodes:
        if node.op == "mix":
            names.setdefault(node.attribute("gate"), _names(node))
    return names


def _names(mix: Node) -> tuple[str, ...]:
    prefix = f"{mix.name}."
    if not any(name.startswith(prefix) for name in mix.inputs):
        prefix = mix.name.rpartition(".")[0] + "."
    return tuple(
        name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else IDENTITY for name in mix.inputs
    )
