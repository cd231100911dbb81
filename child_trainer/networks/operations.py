"""The `nn.Module` of each operation.

A factory takes a `Site` (the node, and the shapes of its inputs, without the batch) and returns a module whose
`forward` takes the node's inputs as positional tensors `[B, ...]`. A factory that cannot build a module for its site
raises `ValueError` with the reason; `build.py` adds the node and the shapes.

Windows use SAME padding, TensorFlow's rule, unless a pool has the padding `valid`: an output side is
ceil(side / stride), and if the padding is odd, the extra row or column is at the bottom or right. For strides above 1
it depends on the image size, so that a network is built for one image size. The regime says how convolutions are
initialised (`build.py`).

Shapes: B examples; C channels; H and W, height and width. Tensors are float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from child_trainer.architectures.architecture import Node
from child_trainer.architectures.gates import NO_CHILD
from child_trainer.architectures.operation_types import BUILDERS
from child_trainer.regime import DEFAULT_REGIME, Regime

Shape = tuple[int, ...]
Padding = tuple[int, int, int, int]
"""Columns at the left and right, rows at the top and bottom: the order of `F.pad`."""


@dataclass(frozen=True, slots=True)
class Site:
    """The place in a network for which a module is built.

    Attributes:
        node: the operation and its attributes.
        shapes: the inputs' shapes, without the batch: `(channels, height, width)` or `(units,)`.
        hidden_size: units of the state of the recurrent cell around the node; `None` in a feed-forward network.
        regime: how the network will be trained; batch normalisation takes its constants from there.
    """

    node: Node
    shapes: tuple[Shape, ...]
    hidden_size: int | None = None
    regime: Regime = DEFAULT_REGIME

    def __getitem__(self, attribute: str) -> Any:
        return self.node.attribute(attribute)

    def feature_map(self) -> tuple[int, int, int]:
        """Return channels, height and width of the only input.

        Raises:
            ValueError: the input is a vector.
        """
        if len(self.shapes[0]) != 3:
            raise ValueError("it takes a feature map (channels, height, width)")
        channels, height, width = self.shapes[0]
        return channels, height, width

    def batch_norm(self, channels: int, *, affine: bool = True) -> nn.Module:
        """Return batch normalisation of so many channels, or units, with the regime's constants."""
        kind = nn.BatchNorm2d if len(self.shapes[0]) == 3 else nn.BatchNorm1d
        return kind(channels, eps=self.regime.norm_epsilon, momentum=self.regime.norm_momentum, affine=affine)

    def check_same_shapes(self) -> None:
        """Raise `ValueError` unless all inputs have one shape: broadcasting would hide a mistake."""
        if len(set(self.shapes)) > 1:
            raise ValueError("its inputs must have the same shape")


Factory = Callable[[Site], nn.Module]


def same_padding(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], dilation: int = 1) -> Padding:
    """Return the padding that makes each output side ceil(side / stride). Every pair is (height, width)."""
    before_after = []
    for side, kernel, step in zip(size, window, stride, strict=True):
        outputs = -(-side // step)
        total = max((outputs - 1) * step + (kernel - 1) * dilation + 1 - side, 0)
        before_after.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = before_after
    return left, right, top, bottom


class Apply(nn.Module):
    """A module that applies a function without parameters."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the function's value for the inputs, `[B, ...]` each."""
        return self.function(*inputs)


class LastReLU(nn.ReLU):
    """A ReLU whose gradient first gets the memory layout of its output.

    PyTorch multiplies tensors of two layouts ten times slower, and the gradient of a concatenation or of an average
    has another layout than feature maps. The values are the same.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the positive part of `[B, ...]`."""
        result = super().forward(input)
        if result.requires_grad and result.dim() == 4:
            channels_last = result.is_contiguous(memory_format=torch.channels_last)
            result.register_hook(_channels_last if channels_last else _contiguous)
        return result


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


def _contiguous(gradient: Tensor) -> Tensor:
    return gradient.contiguous()


KEEP_SHAPE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.ReLU, LastReLU)
"""Modules in evaluation mode whose output has the shape and the dtype of their input."""


def keeps_shape(module: nn.Module) -> bool:
    """Return whether a module is one of `KEEP_SHAPE`, and not of a class derived from them."""
    return type(module) in KEEP_SHAPE


class PoolingLayer(nn.Module):
    """Maximum or mean over windows; SAME padding is never the maximum and does not count in a mean."""

    def __init__(
        self, kind: str, size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], padding: str = "same"
    ) -> None:
        super().__init__()
        self.kind, self.window, self.stride = kind, window, stride
        self.padding = same_padding(size, window, stride) if padding == "same" else (0, 0, 0, 0)

    def forward(self, images: Tensor) -> Tensor:
        """Pool `[B, C, H, W]` to `[B, C, H', W']`.

        With SAME padding H' is ceil(H / stride), without padding ceil((H - window + 1) / stride); W' likewise.
        """
        left, right, top, bottom = self.padding
        even = left == right and top == bottom
        if self.kind == "max":
            if even:
                return F.max_pool2d(images, self.window, self.stride, (top, left))
            return F.max_pool2d(F.pad(images, self.padding, value=float("-inf")), self.window, self.stride)
        if even:
            return F.avg_pool2d(images, self.window, self.stride, (top, left), count_include_pad=False)
        inside = F.pad(torch.ones_like(images[:1, :1]), self.padding)
        total = F.avg_pool2d(F.pad(images, self.padding), self.window, self.stride)
        return total / F.avg_pool2d(inside, self.window, self.stride)


class Concat(nn.Module):
    """Concatenation along the channels, each input first zero-padded by its own `Padding` (spec §1.3, R3)."""

    def __init__(self, paddings: tuple[Padding, ...]) -> None:
        super().__init__()
        self.paddings = paddings

    def forward(self, *inputs: Tensor) -> Tensor:
        """Concatenate inputs `[B, C_i, H_i, W_i]` to `[B, sum C_i, max H_i, max W_i]`."""
        padded = [F.pad(x, padding) if any(padding) else x for x, padding in zip(inputs, self.paddings, strict=True)]
        return padded[0] if len(padded) == 1 else torch.cat(padded, dim=1)


class DropPath(nn.Module):
    """ScheduledDropPath (Zoph et al. 2018; spec §3.3): each example's path is dropped, or scaled to keep its mean.

    It is the identity in evaluation, and until `advance` is called, which the training does before each step.

    Args:
        depth: share of the network's cells that are behind the path, its own included.
    """

    def __init__(self, depth: float) -> None:
        super().__init__()
        self.depth = depth
        self.keep = 1.0
        """Probability that an example's path is kept."""

    def advance(self, path_keep: float, progress: float) -> None:
        """Set the probability: from 1 at the training's start, linearly to that of the path's depth at its end.

        Args:
            path_keep: probability that a path of the last cell is kept at the end of the training.
            progress: share of the training's steps that are done.
        """
        keep_at_depth = 1 - self.depth * (1 - path_keep)
        self.keep = 1 - min(1.0, progress) * (1 - keep_at_depth)

    def forward(self, values: Tensor) -> Tensor:
        """Return `[B, ...]`, in training with the values of dropped examples 0 and of all others divided by `keep`."""
        if not self.training or self.keep == 1:
            return values
        kept = values.new_empty((len(values), *(1,) * (values.dim() - 1))).bernoulli_(self.keep)
        return values * (kept / self.keep)


class LocalContrastNorm(nn.Module):
    """Subtractive, then divisive normalisation over a square window and all channels (Jarrett et al. 2009).

    The window is flat instead of their Gaussian. As theirs, the divisor is at least its mean over the image.
    """

    def __init__(self, size: tuple[int, int], window: int) -> None:
        super().__init__()
        self.mean = PoolingLayer("mean", size, (window, window), (1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise `[B, C, H, W]`, keeping its shape."""
        centred = images - self.mean(images.mean(1, keepdim=True))
        deviation = self.mean(centred.square().mean(1, keepdim=True)).clamp_min(1e-12).sqrt()
        return centred / torch.maximum(deviation, deviation.mean((2, 3), keepdim=True))


def _convolution(site: Site, filters: int, groups: int) -> nn.Module:
    channels, height, width = site.feature_map()
    if channels % groups or filters % groups:
        raise ValueError(f"{groups} groups divide neither or only one of {channels} channels and {filters} filters")
    order: list[str] = site["order"].removesuffix("-unbiased").split("-")
    window = (site["height"], site["width"])
    stride = (site["stride_height"], site["stride_width"])
    padding = same_padding((height, width), window, stride, site["dilation"])
    left, right, top, bottom = padding
    even = left == right and top == bottom
    # The batch normalisation that follows would subtract a bias again.
    bias = "conv-bn" not in site["order"] and "unbiased" not in site["order"]
    layers: list[nn.Module] = []
    for place, part in enumerate(order, start=1):
        if part == "conv":
            if not even:
                layers.append(nn.ZeroPad2d(padding))
            layers.append(
                nn.Conv2d(
                    channels,
                    filters,
                    window,
                    stride,
                    (top, left) if even else 0,
                    dilation=site["dilation"],
                    groups=groups,
                    bias=bias,
                )
            )
        elif part == "bn":
            width = filters if "conv" in order[: order.index("bn")] else channels
            layers.append(site.batch_norm(width, affine=site["affine"]))
        else:
            # Only later layers may overwrite their input: that of the first layer may have other readers.
            layers.append((LastReLU if place == len(order) else nn.ReLU)(inplace=bool(layers)))
    return nn.Sequential(*layers)


def _conv(site: Site) -> nn.Module:
    return _convolution(site, site["filters"], site["groups"])


def _depthwise_conv(site: Site) -> nn.Module:
    channels = site.feature_map()[0]
    return _convolution(site, channels * site["multiplier"], channels)


def _pool(kind: str) -> Factory:
    def make(site: Site) -> nn.Module:
        _, height, width = site.feature_map()
        window = (site["height"], site["width"])
        stride = (site["stride_height"], site["stride_width"])
        return PoolingLayer(kind, (height, width), window, stride, site["padding"])

    return make


def _global_avg_pool(site: Site) -> nn.Module:
    site.feature_map()
    return Apply(lambda x: x.mean((2, 3)))


def _linear(site: Site) -> nn.Module:
    if len(site.shapes[0]) != 1:
        raise ValueError("it takes a vector; put `flatten` or `global_avg_pool` before it")
    units = site["units"] or site.hidden_size
    if units is None:
        raise ValueError("`units` must be at least 1 outside a recurrent cell")
    return nn.Linear(site.shapes[0][0], units, bias=site["bias"])


def _concat(site: Site) -> nn.Module:
    ranks = {len(shape) for shape in site.shapes}
    if len(ranks) > 1:
        raise ValueError("its inputs must be all feature maps or all vectors")
    if ranks == {1}:
        return Concat(((0, 0, 0, 0),) * len(site.shapes))
    if not site["pad"] and len({shape[1:] for shape in site.shapes}) > 1:
        raise ValueError("its inputs must have the same height and width, unless `pad` is true")
    height, width = max(shape[1] for shape in site.shapes), max(shape[2] for shape in site.shapes)
    missing = [(height - shape[1], width - shape[2]) for shape in site.shapes]
    return Concat(tuple((w // 2, w - w // 2, h // 2, h - h // 2) for h, w in missing))


def _mean(*inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs) / len(inputs)


def _combine(function: Callable[..., Tensor]) -> Factory:
    def make(site: Site) -> nn.Module:
        site.check_same_shapes()
        return Apply(function)

    return make


def _reduce(function: Callable[[Tensor, Tensor], Tensor]) -> Factory:
    return _combine(lambda *inputs: reduce(function, inputs))


def _apply(function: Callable[[Tensor], Tensor]) -> Factory:
    return lambda site: Apply(function)


def _batch_norm(site: Site) -> nn.Module:
    return site.batch_norm(site.shapes[0][0], affine=site["affine"])


def _local_contrast_norm(site: Site) -> nn.Module:
    _, height, width = site.feature_map()
    return LocalContrastNorm((height, width), site["size"])


def _shift(site: Site) -> nn.Module:
    _, height, width = site.feature_map()
    down, right = site["height"], site["width"]
    if abs(down) >= height or abs(right) >= width:
        raise ValueError(f"a shift by ({down}, {right}) pixels leaves nothing of it")
    # A negative pad crops: rows and columns cut at the upper left return as zeros at the lower right.
    return Apply(lambda x: F.pad(x, (-right, right, -down, down)))


def _split(site: Site) -> nn.Module:
    channels, parts, index = site.shapes[0][0], site["parts"], site["index"]
    if channels % parts or index >= parts:
        raise ValueError(f"part {index} of {parts} equal parts of {channels} channels does not exist")
    size = channels // parts
    return Apply(lambda x: x[:, index * size : (index + 1) * size])


def _part(site: Site) -> nn.Module:
    raise ValueError("a part is a box of a drawing, which cannot be built; use the operations that it stands for")


def _mix(site: Site) -> nn.Module:
    raise ValueError(NO_CHILD)


def _with_number(attribute: str, function: Callable[[Tensor, float], Tensor]) -> Factory:
    """Return the factory of an operation that applies a function of its input and of one attribute."""

    def make(site: Site) -> nn.Module:
        number = float(site[attribute])
        return Apply(lambda x: function(x, number))

    return make


MODULES: Mapping[str, Factory] = MappingProxyType(
    {
        "conv": _conv,
        "depthwise_conv": _depthwise_conv,
        "max_pool": _pool("max"),
        "avg_pool": _pool("mean"),
        "global_avg_pool": _global_avg_pool,
        "flatten": _apply(lambda x: x.flatten(1)),
        "linear": _linear,
        "concat": _concat,
        "add": _reduce(torch.add),
        "multiply": _reduce(torch.mul),
        "mean": _combine(_mean),
        "maximum": _reduce(torch.maximum),
        "subtract": _combine(torch.sub),
        "interpolate": _combine(torch.lerp),
        "identity": _apply(lambda x: x),
        "zero": _apply(torch.zeros_like),
        "relu": _apply(torch.relu),
        "relu6": _apply(F.relu6),
        "leaky_relu": _apply(F.leaky_relu),
        "tanh": _apply(torch.tanh),
        "sigmoid": _apply(torch.sigmoid),
        "sin": _apply(torch.sin),
        "batch_norm": _batch_norm,
        "local_contrast_norm": _local_contrast_norm,
        "dropout": lambda site: nn.Dropout(float(site["rate"])),
        "drop_path": lambda site: DropPath(float(site["depth"])),
        "shift": _shift,
        "split": _split,
        "part": _part,
        "mix": _mix,
        "scale": _with_number("by", torch.mul),
        "logistic": _with_number("slope", lambda x, slope: torch.sigmoid(slope * x)),
        "constant": _with_number("value", torch.full_like),
    }
)
"""The factory of each operation in `operation_types.OPERATIONS`."""


def factory_of(op: str) -> Factory:
    """Return what builds an operation's module: one of ours, or of the user's own."""
    return MODULES[op] if op in MODULES else BUILDERS[op]
