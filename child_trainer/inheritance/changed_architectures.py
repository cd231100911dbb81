"""The networks that changes make; `changes.py` says what each change is. Standard library only."""

from collections.abc import Sequence
from dataclasses import replace

from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.inheritance.changes import (
    CHANNELWISE,
    MAX_BRANCHES,
    Branch,
    Change,
    Deepen,
    InsertIdentity,
    InvalidChange,
    Repeat,
    ReplaceIdentity,
    Widen,
)

_KEEPS_SIGNS = (
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "flatten",
    "identity",
    "concat",
    "mean",
    "add",
    "maximum",
    "dropout",
    "split",
)
"""Operations whose values are not negative if none of their inputs' are."""


def changed(architecture: Architecture, changes: Sequence[Change]) -> Architecture:
    """Return the network after the changes, one after another.

    Raises:
        InvalidChange: a change does not fit.
    """
    for change in changes:
        match change:
            case Widen():
                architecture = _widened(architecture, change)
            case Deepen():
                architecture = _deepened(architecture, change)
            case Branch():
                architecture = _branched(architecture, change)
            case InsertIdentity():
                after = find_node(architecture, change.after).name
                architecture = _inserted(architecture, after, [node(change.name, "identity", after)])
            case ReplaceIdentity():
                architecture = _replaced(architecture, change)
            case Repeat():
                architecture = _repeated(architecture, change)
    return architecture


def width_of(layer: Node) -> int:
    """Return how many filters or units a layer has.

    Raises:
        InvalidChange: it is no `conv` without groups and no `linear` with units.
    """
    if layer.op == "conv" and layer.attribute("groups") == 1:
        return layer.attribute("filters")
    if layer.op == "linear" and layer.attribute("units"):
        return layer.attribute("units")
    raise InvalidChange(f"node {layer.name!r} ({layer.op}) has no width: choose a conv without groups or a linear")


def with_width(layer: Node, width: int) -> Node:
    """Return the layer with another number of filters or units."""
    attribute = "filters" if layer.op == "conv" else "units"
    return _with(layer, **{attribute: width})


def find_node(architecture: Architecture, name: str) -> Node:
    """Return the node of this name.

    Raises:
        InvalidChange: there is none.
    """
    for n in architecture.nodes:
        if n.name == name:
            return n
    raise InvalidChange(f"the network has no node {name!r} to be changed")


def replacement_nodes(change: ReplaceIdentity, source: str) -> tuple[Node, ...]:
    """Return the nodes in the place of an identity that read `source`; the last one has the identity's name."""
    window = {"height": change.size, "width": change.size}
    match change.op:
        case "conv":
            return (node(change.node, "conv", source, filters=change.width, **window),)
        case "separable_conv":
            depthwise = node(depthwise_name(change), "depthwise_conv", source, order="conv-unbiased", **window)
            return depthwise, node(change.node, "conv", depthwise.name, filters=change.width, height=1, width=1)
        case "max_pool" | "avg_pool":
            return (node(change.node, change.op, source, **window),)


def depthwise_name(change: ReplaceIdentity) -> str:
    """Return the name of the depthwise convolution of a separable one."""
    return f"{change.node}.depthwise"


def dense_layer(architecture: Architecture, name: str) -> tuple[list[Node], Node]:
    """Return the nodes of a dense block's layer, first to last, and the `concat` that joins it to what it reads.

    Raises:
        InvalidChange: the node is no last convolution of such a layer.
    """
    layer = find_node(architecture, name)
    readers = [n for n in architecture.nodes if name in n.inputs]
    joined = readers[0] if len(readers) == 1 else layer
    fits = joined.op == "concat" and len(joined.inputs) == 2 and joined.inputs[1] == name
    nodes, by_name = [layer], {n.name: n for n in architecture.nodes}
    while fits and nodes[0].inputs != joined.inputs[:1]:
        fits = len(nodes[0].inputs) == 1 and nodes[0].inputs[0].startswith(f"{name}.")
        nodes = [by_name[nodes[0].inputs[0]], *nodes] if fits else nodes
    if not (fits and nodes[0].op == layer.op == "conv"):
        raise InvalidChange(
            f"node {name!r} ({layer.op}) is no layer of a dense block: choose a conv that nothing but a concat reads,"
            " which joins it to what the layer reads"
        )
    width_of(layer)
    width_of(nodes[0])
    return nodes, joined


def repeated_name(change: Repeat, name: str) -> str:
    """Return what the copy of a node of the repeated layer is called."""
    return change.name + name.removeprefix(change.node)


def branch_names(change: Branch) -> tuple[str, ...]:
    """Return the names of all branches, the first of which is the layer's own."""
    return change.node, *(f"{change.name}.{place}" for place in range(2, change.count + 1))


def split_nodes(name: str, source: Sequence[str] | str, count: int) -> list[Node]:
    """Return the nodes that cut a value into equal parts along the channels, called `<name>.part1` and so on."""
    return [node(f"{name}.part{i + 1}", "split", source, parts=count, index=i) for i in range(count)]


def part_sizes(total: int, count: int) -> list[int]:
    """Return the sizes of `count` parts that are as equal as can be, the larger ones first."""
    return [total // count + (place < total % count) for place in range(count)]


def _with(layer: Node, **attributes: int) -> Node:
    return replace(layer, attributes=tuple(sorted((dict(layer.attributes) | attributes).items())))


def _widened(architecture: Architecture, change: Widen) -> Architecture:
    layer = find_node(architecture, change.node)
    if change.width <= (width := width_of(layer)):
        raise InvalidChange(f"node {layer.name!r} has the width {width}: a wider one needs more, got {change.width}")
    wider = with_width(layer, change.width)
    nodes = tuple(wider if n.name == layer.name else n for n in architecture.nodes)
    return replace(architecture, nodes=nodes)


def _deepened(architecture: Architecture, change: Deepen) -> Architecture:
    after = find_node(architecture, change.after)
    if not ends_without_negatives(architecture, after.name):
        raise InvalidChange(
            f"a new layer ends in a ReLU, so that it is no identity behind {after.name!r} ({after.op}), whose values"
            " may be negative: choose a node that ends in a ReLU, or a pool of such"
        )
    if change.op == "conv":
        window = {"height": change.size, "width": change.size}
        new = [node(change.name, "conv", after.name, filters=change.width, **window)]
    else:
        linear = node(change.name, "linear", after.name, units=change.width)
        new = [linear, node(f"{change.name}.relu", "relu", change.name)]
    return _inserted(architecture, after.name, new)


def _branched(architecture: Architecture, change: Branch) -> Architecture:
    layer = find_node(architecture, change.node)
    _check_branch(layer, change)
    names = branch_names(change)
    layers = [replace(layer, name=name) for name in names]
    parts: list[Node] = []
    if change.allocation == "split":
        parts = split_nodes(change.name, layer.inputs, change.count)
        layers = [replace(one, inputs=(part.name,)) for one, part in zip(layers, parts, strict=True)]
        if change.merge == "concat" and layer.op == "conv":
            groups, filters = layer.attribute("groups"), layer.attribute("filters")
            layers = [_with(one, filters=filters // change.count, groups=groups // change.count) for one in layers]
    elif change.merge == "concat":
        sizes = part_sizes(width_of(layer), change.count)
        layers = [with_width(one, size) for one, size in zip(layers, sizes, strict=True)]
    operation = "concat" if change.merge == "concat" else "mean" if change.allocation == "copy" else "add"
    branched = replace(
        architecture,
        nodes=tuple(new for n in architecture.nodes for new in ([*parts, layers[0]] if n.name == layer.name else [n])),
    )
    return _inserted(branched, layer.name, [*layers[1:], node(change.name, operation, names)])


def _replaced(architecture: Architecture, change: ReplaceIdentity) -> Architecture:
    old = find_node(architecture, change.node)
    if old.op != "identity":
        raise InvalidChange(f"node {old.name!r} ({old.op}) cannot be replaced: choose an identity")
    (source,) = old.inputs
    is_pool = change.op in ("max_pool", "avg_pool")
    if not is_pool and change.width < 1:
        raise InvalidChange(f"a {change.op} in the place of {old.name!r} needs `width`, its number of channels")
    if is_pool and change.width:
        raise InvalidChange(f"a {change.op} in the place of {old.name!r} has no `width`, got {change.width}")
    if not is_pool and not ends_without_negatives(architecture, source):
        raise InvalidChange(
            f"a {change.op} ends in a ReLU, so that it is no identity in the place of {old.name!r}, which reads"
            f" {source!r}, whose values may be negative: choose an identity behind a ReLU, or a pool of such"
        )
    new = replacement_nodes(change, source)
    nodes = tuple(one for n in architecture.nodes for one in (new if n.name == old.name else (n,)))
    return replace(architecture, nodes=nodes)


def _check_branch(layer: Node, change: Branch) -> None:
    """Raise `InvalidChange` unless the branches together can compute what the layer does."""
    if not 2 <= change.count <= MAX_BRANCHES:
        raise InvalidChange(f"`count` must be 2 to {MAX_BRANCHES} branches, got {change.count}")
    if len(layer.inputs) != 1:
        raise InvalidChange(f"node {layer.name!r} ({layer.op}) joins values: choose a layer with one input")
    match change.allocation, change.merge:
        case "copy", "concat":
            fits, what = layer.op == "conv" and width_of(layer) >= change.count, "a conv with a filter for each branch"
        case "split", "add":
            linear = layer.op == "conv" and layer.attribute("order") in ("conv", "conv-unbiased")
            fits, what = linear and width_of(layer) > 0, "a conv without batch normalisation and ReLU"
        case "split", "concat":
            grouped = layer.op == "conv" and layer.attribute("groups") % change.count == 0
            fits, what = (
                grouped or layer.op in CHANNELWISE,
                f"one of {', '.join(CHANNELWISE)}, or a conv with groups for each branch",
            )
        case _:
            fits, what = True, ""
    if not fits:
        raise InvalidChange(
            f"node {layer.name!r} ({layer.op}) cannot be branched by {change.allocation} and {change.merge}: that needs"
            f" {what}"
        )


def _repeated(architecture: Architecture, change: Repeat) -> Architecture:
    nodes, joined = dense_layer(architecture, change.node)
    new, source = list[Node](), joined.name
    for n in nodes:
        new.append(replace(n, name=repeated_name(change, n.name), inputs=(source,)))
        source = new[-1].name
    new.append(node(f"{change.name}.all", "concat", (joined.name, change.name)))
    return _inserted(architecture, joined.name, new)


def _inserted(architecture: Architecture, after: str, new: Sequence[Node]) -> Architecture:
    """Return the network with new nodes behind one; all that read it, but the new ones, read the last of these."""
    last = new[-1].name
    nodes: list[Node] = []
    for n in architecture.nodes:
        nodes.append(replace(n, inputs=tuple(last if source == after else source for source in n.inputs)))
        if n.name == after:
            nodes += new
    outputs = tuple(last if name == after else name for name in architecture.outputs)
    return replace(architecture, nodes=tuple(nodes), outputs=outputs)


def ends_without_negatives(architecture: Architecture, name: str) -> bool:
    """Return whether no value of this node is negative, whatever the image: it ends in a ReLU, or keeps what does."""
    found: set[str] = set()
    for n in architecture.ordered:
        if n.op in ("conv", "depthwise_conv"):
            holds = n.attribute("order").endswith("relu")
        elif n.op in _KEEPS_SIGNS:
            holds = found.issuperset(n.inputs)
        else:
            holds = n.op in ("relu", "relu6", "sigmoid")
        if holds:
            found.add(n.name)
    return name in found
