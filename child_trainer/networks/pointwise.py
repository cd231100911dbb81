"""Operations that work element by element, with their derivatives written out.

For a recurrent cell, which repeats a few dozen small operations at every step, the bookkeeping of automatic
differentiation costs as much as the arithmetic. A test compares every derivative with PyTorch's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor

Gradients = tuple[Tensor, ...]

_tanh_backward = torch.ops.aten.tanh_backward
_sigmoid_backward = torch.ops.aten.sigmoid_backward
_threshold_backward = torch.ops.aten.threshold_backward


@dataclass(frozen=True, slots=True)
class Pointwise:
    """One operation on tensors of one shape and floating-point dtype.

    Attributes:
        forward: computes the result from the inputs.
        backward: computes the inputs' gradients from the result's gradient, the result and the inputs; a gradient may
            be the same tensor object as the result's gradient.
        arity: the number of inputs, or `None` for any number.
    """

    forward: Callable[..., Tensor]
    backward: Callable[[Tensor, Tensor, Sequence[Tensor]], Gradients]
    arity: int | None


def _add(*inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs)


def _maximum_backward(gradient: Tensor, result: Tensor, inputs: Sequence[Tensor]) -> Gradients:
    left, right = inputs
    # As in PyTorch, equal inputs (such as two zeros of ReLUs) share the gradient.
    share = torch.where(left == right, 0.5, (left > right).to(gradient.dtype))
    left_gradient = gradient * share
    return left_gradient, gradient - left_gradient


POINTWISE: Mapping[str, Pointwise] = MappingProxyType(
    {
        "add": Pointwise(_add, lambda g, y, xs: (g,) * len(xs), None),
        "subtract": Pointwise(torch.sub, lambda g, y, xs: (g, -g), 2),
        "multiply": Pointwise(torch.mul, lambda g, y, xs: (g * xs[1], g * xs[0]), 2),
        "maximum": Pointwise(torch.maximum, _maximum_backward, 2),
        "identity": Pointwise(lambda x: x, lambda g, y, xs: (g,), 1),
        "tanh": Pointwise(torch.tanh, lambda g, y, xs: (_tanh_backward(g, y),), 1),
        "sigmoid": Pointwise(torch.sigmoid, lambda g, y, xs: (_sigmoid_backward(g, y),), 1),
        "relu": Pointwise(torch.relu, lambda g, y, xs: (_threshold_backward(g, y, 0),), 1),
        "sin": Pointwise(torch.sin, lambda g, y, xs: (g * torch.cos(xs[0]),), 1),
    }
)
"""The operations of `operation_types.OPERATIONS` that have a derivative here."""
