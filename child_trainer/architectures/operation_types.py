"""The operations that an architecture may name: arity, attributes and their limits. Standard library only.

`networks/operations.py` gives each of these a module; a test holds the two tables to the same names.
An attribute that an operation gains after runs were recorded is `added_later`, so that no recorded id changes.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

type_names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}

Value = int | float | bool | str

ChannelOrder = Literal["read", "kept", "absorbed", "joined"]
"""What an operation makes of the order of its inputs' channels:

- `read`: it depends on the places of the channels (a split, a grouped convolution);
- `kept`: it treats all channels alike, so that another order at its inputs is the same other order at its output;
- `absorbed`: its weights can undo any order (a convolution over all channels, a linear map);
- `joined`: its output has its inputs' channels one after another.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """One attribute of an operation: its type, its default and its limits.

    Attributes:
        of: the type of its values.
        default: the value of a node that does not set it; `None` if every node must set it.
        minimum, maximum: the limits of a number, inclusive; `None` if there is none.
        options: the only values that it may have; empty if any value of the type will do.
        added_later: whether runs were recorded before the operation had this attribute. Such an attribute enters a
            node's label, and so the architecture's id, only where its value differs from the default: every recorded
            id stays what it was. Its default must never change after that.

    Raises:
        ValueError: the attribute is `added_later` and has no default.
    """

    of: type[Value] = int
    default: Value | None = None
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[Value, ...] = ()
    added_later: bool = False

    def __post_init__(self) -> None:
        if self.added_later and self.default is None:
            raise ValueError("an attribute that is `added_later` must have a `default`, got none")

    def problem(self, value: object) -> str | None:
        """Return what is wrong with `value`, as the end of a sentence, or `None`."""
        fits = isinstance(value, self.of) or (self.of is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and self.of is not bool):
            return f"must be {type_names[self.of]}, got {value!r}"
        if self.options and value not in self.options:
            return f"must be one of {', '.join(map(repr, self.options))}, got {value!r}"
        if isinstance(value, int | float):
            if isinstance(value, float) and math.isnan(value):
                return "must be a number, got nan"
            if self.minimum is not None and value < self.minimum:
                return f"must be at least {self.minimum}, got {value!r}"
            if self.maximum is not None and value > self.maximum:
                return f"must be at most {self.maximum}, got {value!r}"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One kind of node.

    Attributes:
        min_inputs, max_inputs: how many inputs it takes; `max_inputs` is `None` if there is no limit.
        commutative: whether the order of its inputs does not matter. If the channels are `joined`, it does not matter
            as long as no operation behind it reads channels by place (`channel_order.py`).
        channels: what it makes of the order of the channels. An operation that does not say reads them by place.
        attributes: its attributes by name.
    """

    min_inputs: int = 1
    max_inputs: int | None = 1
    commutative: bool = False
    channels: ChannelOrder = "read"
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


SIZE = Attribute(minimum=1)
ONE = Attribute(default=1, minimum=1)
NUMBER = Attribute(of=float, minimum=-sys.float_info.max, maximum=sys.float_info.max)

CONVOLUTION_ORDERS = (
    "conv",
    "conv-bn",
    "conv-relu",
    "conv-bn-relu",
    "relu-conv-bn",
    "bn-relu-conv",
    "conv-unbiased",
)
"""The order of a convolution, batch normalisation and ReLU. The convolution has a bias unless batch normalisation
follows it or the name says `unbiased`. The default is spec §1.1's proposal."""

_window = {"height": SIZE, "width": SIZE, "stride_height": ONE, "stride_width": ONE}
_order = Attribute(of=str, default="conv-bn-relu", options=CONVOLUTION_ORDERS)
# Whether the batch normalisation of a node scales and shifts by weights of its own.
_affine = {"affine": Attribute(of=bool, default=True, added_later=True)}
_pad = Attribute(of=bool, default=False)
# A pool with `valid` padding, none, has the output side ceil((side - window + 1) / stride).
_pool = _window | {"padding": Attribute(of=str, default="same", options=("same", "valid"), added_later=True)}
_unary = Operation(channels="kept")
_many = Operation(max_inputs=None, commutative=True, channels="kept")

_OPERATIONS: dict[str, Operation] = {
    # Convolutions use SAME padding, and so do pools by default: an output side is ceil(side / stride).
    # A grouped convolution reads channels by place, see `channel_order.py`.
    "conv": Operation(
        channels="absorbed",
        attributes=_window | {"filters": SIZE, "dilation": ONE, "groups": ONE, "order": _order} | _affine,
    ),
    "depthwise_conv": Operation(attributes=_window | {"multiplier": ONE, "dilation": ONE, "order": _order} | _affine),
    "max_pool": Operation(channels="kept", attributes=_pool),
    "avg_pool": Operation(channels="kept", attributes=_pool),
    "global_avg_pool": _unary,
    "flatten": _unary,
    # With 0 units a linear map is as wide as its recurrent cell.
    "linear": Operation(
        channels="absorbed",
        attributes={"units": Attribute(default=0, minimum=0), "bias": Attribute(of=bool, default=True)},
    ),
    # With `pad`, smaller maps are zero-padded to the largest (spec §1.3, R3); without, all must have one size.
    "concat": Operation(max_inputs=None, commutative=True, channels="joined", attributes={"pad": _pad}),
    "add": _many,
    "multiply": _many,
    "mean": _many,
    "maximum": _many,
    "subtract": Operation(min_inputs=2, max_inputs=2, channels="kept"),
    # From its first input to its second, by the share that the third is: a highway's step.
    "interpolate": Operation(min_inputs=3, max_inputs=3, channels="kept"),
    "identity": _unary,
    "zero": _unary,
    "relu": _unary,
    "relu6": _unary,
    # The slope below 0 is 0.01.
    "leaky_relu": _unary,
    "tanh": _unary,
    "sigmoid": _unary,
    "sin": _unary,
    "batch_norm": Operation(channels="kept", attributes=_affine),
    "local_contrast_norm": Operation(channels="kept", attributes={"size": Attribute(default=5, minimum=1)}),
    "dropout": Operation(channels="kept", attributes={"rate": Attribute(of=float, minimum=0.0, maximum=1.0)}),
    # ScheduledDropPath (spec §3.3): `depth` is the share of the network's cells that are behind it, its own included.
    "drop_path": Operation(channels="kept", attributes={"depth": Attribute(of=float, minimum=0.0, maximum=1.0)}),
    # Pixel shift towards the upper left, the second branch of a factorised reduction (spec §3.1).
    "shift": Operation(channels="kept", attributes={"height": Attribute(default=1), "width": Attribute(default=1)}),
    # Part `index` of `parts` equal cuts along the channels (spec §9.2).
    "split": Operation(attributes={"parts": SIZE, "index": Attribute(minimum=0)}),
    # Several operations as one box of a drawing, named by the label; no network can be built of it.
    "part": Operation(attributes={"label": Attribute(of=str)}),
    # The sum of its inputs, each times its number in the gate vector of this name, which nodes may share: a choice of a
    # supernet (`gates.py`).
    "mix": Operation(max_inputs=None, channels="kept", attributes={"gate": Attribute(of=str)}),
    # The parts of networks whose weights are data (spec §15): a weight, a sigmoid of any slope, and a bias's input.
    "scale": Operation(channels="kept", attributes={"by": NUMBER}),
    "logistic": Operation(channels="kept", attributes={"slope": NUMBER}),
    "constant": Operation(channels="kept", attributes={"value": NUMBER}),
}

OPERATIONS: Mapping[str, Operation] = MappingProxyType(_OPERATIONS)

BUILDERS: dict[str, Callable[[Any], Any]] = {}
"""What builds the module of each operation of the user's own, from its `networks.operations.Site`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnOperation:
    """An operation that users define in a file of their own, under a name in its `OPERATIONS`.

    Attributes:
        takes: its inputs and attributes.
        build: returns its PyTorch module for a `child_trainer.networks.operations.Site`.
    """

    takes: Operation = Operation()
    build: Callable[[Any], Any]


def add_operation(name: str, own: OwnOperation) -> None:
    """Make an operation of the user's own known to this process.

    Raises:
        ValueError: there is another operation of this name.
    """
    if name in _OPERATIONS and (name not in BUILDERS or _OPERATIONS[name] != own.takes):
        raise ValueError(f"there is another operation {name!r}: an operation of your own needs a name of its own")
    _OPERATIONS[name] = own.takes
    BUILDERS[name] = own.build
