"""Changes of a network that keep its function, as data. Standard library only.

A change makes a larger network of one (`changed_architectures.py`); `inherited_weights.py` gives the weights with which
the new network computes what the old one did. One change alone does not keep the function: that of an identity into a
pool. A node that was there keeps its name through every change, so that its weights are found by it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from child_trainer.architectures.architecture import InvalidArchitecture

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
    | split, concat | the layer on a part of the channels | `CHANNELWISE` layers, as `identity`; `conv` with groups |

    Attributes:
        node: the layer, which becomes the first branch.
        name: of the node that merges the branches. The other branches are called `<name>.2` and so on, the parts of
            the channels `<name>.part1` and so on.
        allocation: whether each branch gets the whole input or a part of its channels.
        merge: how the branches become one.
        count: the number of branches.
        noise: standard deviation of what is added to the weights of the further copies (`copy, add`), but not to their
            normalisation, as a share of that of the weights. Parts get none.
    """

    node: str
    name: str
    allocation: Literal["copy", "split"]
    merge: Literal["add", "concat"]
    count: int = 2
    noise: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class InsertIdentity:
    """An identity behind a node, which further changes branch or replace (Cai et al. 2018, arXiv 1806.02639).

    Attributes:
        after: the node; all that read it read the identity.
        name: of the identity.
    """

    after: str
    name: str


Replacement = Literal["conv", "separable_conv", "max_pool", "avg_pool"]
"""What an identity may become."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaceIdentity:
    """An operation in the place of an identity (Cai et al. 2018, arXiv 1806.02639).

    A convolution ends in batch normalisation and a ReLU, and begins as the identity, so that what it reads must not be
    negative. A separable one is a depthwise convolution, called `<node>.depthwise`, and a 1x1 convolution behind it. No
    weights make a pool the identity: the network computes something else from then on.

    Attributes:
        node: the identity; the operation gets its name.
        op: what the operation is. Its stride is 1.
        size: height and width of its window.
        width: the number of the channels, for a convolution; 0 for a pool, which takes what comes.
        noise: standard deviation of what is added to the identity's weights, as a share of that of the weights; a pool
            has none.
    """

    node: str
    op: Replacement
    size: int = 3
    width: int = 0
    noise: float = DEEPER_NOISE


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


Change: TypeAlias = Widen | Deepen | Branch | InsertIdentity | ReplaceIdentity | Repeat

CHANGES: Mapping[str, type[Change]] = {
    "widen": Widen,
    "deepen": Deepen,
    "branch": Branch,
    "insert-identity": InsertIdentity,
    "replace-identity": ReplaceIdentity,
    "repeat": Repeat,
}
"""The kinds of changes by their names in JSON."""

CHANNELWISE = ("identity", "max_pool", "avg_pool", "depthwise_conv", "batch_norm", "relu", "leaky_relu", "dropout")
"""Operations that treat each channel alone."""

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
