"""Where the order of a concatenation's inputs can be seen. Standard library only.

`concat` counts as commutative: the weights of what reads it can undo any order of its channels. That holds only as
long as no operation on the way reads channels by place (`split`, a grouped or depthwise convolution, a sum with a
value whose channels have another order). This module follows an imagined change of one concatenation's order through
the network, up to the operations that absorb it.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from child_trainer.architectures.operation_types import OPERATIONS, ChannelOrder, Value

Change = tuple[object, ...]
"""How a value's channels are reordered: `()` if they are not. Equal changes are equal permutations."""


class Reader(Protocol):
    """The properties of a node that this module needs."""

    @property
    def name(self) -> str:
        """The node's name."""
        ...

    @property
    def op(self) -> str:
        """The node's operation."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what it reads, in order."""
        ...

    @property
    def attributes(self) -> tuple[tuple[str, Value], ...]:
        """The attributes that it sets."""
        ...


class _OrderIsRead(Exception):
    """An operation would compute something else under the change."""


def read_in_order(nodes: Sequence[Reader], outputs: Sequence[str], network_inputs: Collection[str]) -> set[str]:
    """Return the names of the joining nodes whose order of inputs changes what the network computes.

    Args:
        nodes: the live nodes, each after what it reads.
        outputs: the nodes whose values leave the graph, in order.
        network_inputs: the names that nodes may read though no node defines them: `image`, or `x`, `h` and `c`.
    """
    orders: list[ChannelOrder] = [_channels(n.op, n.attributes) for n in nodes]
    joining = [n.name for n, order in zip(nodes, orders, strict=True) if order == "joined" and len(set(n.inputs)) > 1]
    if not joining:
        return set()
    recurrent = "h" in network_inputs
    if not recurrent and not any(_may_read(n, order) for n, order in zip(nodes, orders, strict=True)):
        return set()
    return {name for name in joining if _is_read(name, nodes, orders, outputs, recurrent)}


@lru_cache(maxsize=4096)
def _channels(op: str, attributes: tuple[tuple[str, Value], ...]) -> ChannelOrder:
    if op == "conv" and dict(attributes).get("groups", 1) != 1:
        return "read"
    return OPERATIONS[op].channels


def _may_read(n: Reader, order: ChannelOrder) -> bool:
    return order == "read" or (order in ("kept", "absorbed") and len(n.inputs) > 1)


def _is_read(
    join: str, nodes: Sequence[Reader], orders: Sequence[ChannelOrder], outputs: Sequence[str], recurrent: bool
) -> bool:
    """Return whether another order of the inputs of `join` would change what the network computes."""
    try:
        changes = _changes(join, nodes, orders, {})
        leaving = [changes[name] for name in outputs]
        if not recurrent or not any(leaving):
            return False  # A classifier's linear layer absorbs what leaves a feed-forward network.
        # The next step reads the outputs as its state; where weights are tied, the embedding has the order of h, too.
        state = dict(zip(("h", "c"), leaving, strict=False)) | ({"x": ("embedding",)} if leaving[0] else {})
        changes = _changes(join, nodes, orders, state)
        return [changes[name] for name in outputs] != leaving
    except _OrderIsRead:
        return True


def _changes(
    join: str, nodes: Sequence[Reader], orders: Sequence[ChannelOrder], given: Mapping[str, Change]
) -> dict[str, Change]:
    """Return the change of each node's channels under another order of the inputs of `join`.

    Raises:
        _OrderIsRead: the network would compute something else.
    """
    changes: dict[str, Change] = dict(given)
    for n, order in zip(nodes, orders, strict=True):
        read = [changes.get(source, ()) for source in n.inputs]
        changes[n.name] = (n.name,) if n.name == join else _change(n, order, read)
        if n.name == join and any(read):
            raise _OrderIsRead  # A state that comes back through the same concatenation.
    return changes


def _change(n: Reader, order: ChannelOrder, read: Sequence[Change]) -> Change:
    if not any(read):
        return ()
    if order == "joined":
        return ("join", n.inputs)  # A reordered block among others; where it lies depends on what is joined.
    if order == "read" or (order == "kept" and len(set(read)) > 1):
        raise _OrderIsRead
    if order == "absorbed" and len(read) > 1 and len(set(read)) > 1:
        raise _OrderIsRead
    if order == "absorbed":
        return ()
    return ("flatten", read[0]) if n.op == "flatten" else read[0]
