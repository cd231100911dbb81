"""Changes of a network that keep its function, as data. Standard library only.

A change makes a larger network of one; `inherited_weights.py` gives the weights with which the new network computes
what the old one did. A node that was there keeps its name through every change, so that its weights are found by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node

WIDER_NOISE, DEEPER_NOISE = 1e-2, 1e-3
"""The noise of new units and of new layers in the code of Cai et al. 2018 (arXiv 1707.04873)."""

MAX_BRANCHES = 8
"""Upper bound for the branches that a change makes of one layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Widen:
    """More units in a layer (Net2WiderNet, Chen et al. 2016, arXiv 1511.05641).

    Each new unit is a copy of a random one; all that reads the copies divides what it made of the one among them.

    Attributes:
        node: a `conv` without groups or a `linear`.
        width: its new number of filters or units.
        noise: standard deviation of what is added to the new units' weights, as a share of that of the weights.
    """

    node: str
    width: int
    noise: float = WIDER_NOISE


@dataclass(frozen=True, kw_only=True, slots=True)
class Deepen:
    """A new layer behind a node, which begins as the identity (Net2DeeperNet, Chen et al. 2016).

    A new convolution has batch normalisation that begins as the identity, too. Both kinds end in a ReLU, which is the
    identity only where no value is negative, so that the node must end in one.

    Attributes:
        after: the node; all that read it read the new layer.
        name: of the new node. A `linear` gets a second one, `<name>.relu`.
        op: what the layer is.
        width: the number of the node's channels or units.
        size: height and width of a convolution's window.
        noise: standard deviation of what is added to the identity's weights, as a share of that of the weights.
    """

    after: str
    name: str
    op: Literal["conv", "linear"]
    width: int
    size: int = 3
    noise: float = DEEPER_NOISE


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """Several layers in parallel instead of one (Cai et al. 2018, arXiv 1806.02639, section 3.2).

    | allocation, merge | what each branch is | for |
    |---|---|---|
    | copy, add | the layer itself; the branches' mean is taken | any layer |
    | copy, concat | a part of the layer's filters | `conv` |
    | split, add | the layer on a part of the channels | `conv` of the order `conv` or `conv-unbiased` |
    | split, concat | the layer on a part of the channels | `CHANNELWISE` layers, `identity` among them |

    Attributes:
        node: the layer, which becomes the first branch.
        name: of the node that merges the branches. The other branches are called `<name>.2` and so on, the parts of
            the channels `<name>.part1` and so on.
        allocation: whether each branch gets the whole input or a part of its channels.
        merge: how the branches become one.
        count: the number of branches.
        noise: standard deviation of what is added to the copies' weights, as a share of that of the weights.
    """

    node: str
    name: str
    allocation: Literal["copy", "split"]
    merge: Literal["add", "concat"]
    count: int = 2
    noise: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """A further layer in a dense block, behind one that it begins as a copy of (Cai et al. 2018, arXiv 1707.04873).

    The new layer reads what its original does and, with weights of 0, the original's own value. Each of its filters is
    a copy of a random one of the original's; all later layers divide what they made of the one among the copies. The
    paper's section on DenseNet has filters that pass a channel on, which is exact only for layers that end in the
    convolution without normalising their input; for those of DenseNet-BC the authors' code makes this copy.

    Attributes:
        node: the layer's convolution. One `concat` must read it, behind all that the layer reads. Where the layer has
            several nodes, each reads the one before, and those before the last are called `<node>.<something>`.
        name: of the new convolution; the layer's other nodes are called likewise, its `concat` is `<name>.all`.
        noise: standard deviation of what is added to the new convolutions' weights, as a share of that of the weights.
    """

    node: str
    name: str
    noise: float = WIDER_NOISE


Change: TypeAlias = Widen | Deepen | Branch | Repeat

CHANGES: Mapping[str, type[Widen] | type[Deepen] | type[Branch] | type[Repeat]] = {
    "widen": Widen,
    "deepen": Deepen,
    "branch": Branch,
    "repeat": Repeat,
}
"""The kinds of changes by their names in JSON."""

CHANNELWISE = ("identity", "max_pool", "avg_pool", "depthwise_conv", "batch_norm", "relu", "leaky_relu", "dropout")
"""Operations that treat each channel alone."""

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

_NAMES = {kind: name for name, kind in CHANGES.items()}


class InvalidChange(InvalidArchitecture):
    """A change does not fit a network, or would not keep its function; the message says why and what would be right."""


def change_to_json(change: Change) -> dict[str, Any]:
    """Return plain data for `json.dumps`, from which `change_from_json` makes an equal change."""
    return {"kind": _NAMES[type(change)]} | asdict(change)


def change_from_json(data: Mapping[str, Any]) -> Change:
    """Return the change that `change_to_json` wrote.

    Raises:
        ValueError: it is of a kind that this version does not know.
    """
    if data["kind"] not in CHANGES:
        raise ValueError(f"a change is {', '.join(CHANGES)}, got {data['kind']!r}")
    return CHANGES[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})


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
    return _with(layer, attribute, width)


def find_node(architecture: Architecture, name: str) -> Node:
    """Return the node of this name.

    Raises:
        InvalidChange: there is none.
    """
    for n in architecture.nodes:
        if n.name == name:
            return n
    raise InvalidChange(f"the network has no node {name!r} to be changed")


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


def part_sizes(total: int, count: int) -> list[int]:
    """Return the sizes of `count` parts that are as equal as can be, the larger ones first."""
    return [total // count + (place < total % count) for place in range(count)]


def _with(layer: Node, attribute: str, value: int) -> Node:
    return replace(layer, attributes=tuple(sorted((dict(layer.attributes) | {attribute: value}).items())))


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
        parts = [
            node(f"{change.name}.part{i + 1}", "split", layer.inputs, parts=change.count, index=i)
            for i in range(change.count)
        ]
        layers = [replace(one, inputs=(part.name,)) for one, part in zip(layers, parts, strict=True)]
    elif change.merge == "concat":
        sizes = part_sizes(width_of(layer), change.count)
        layers = [with_width(one, size) for one, size in zip(layers, sizes, strict=True)]
    operation = "concat" if change.merge == "concat" else "mean" if change.allocation == "copy" else "add"
    branched = replace(
        architecture,
        nodes=tuple(new for n in architecture.nodes for new in ([*parts, layers[0]] if n.name == layer.name else [n])),
    )
    return _inserted(branched, layer.name, [*layers[1:], node(change.name, operation, names)])


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
            fits, what = layer.op in CHANNELWISE, f"one of {', '.join(CHANNELWISE)}"
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
